//go:build !amd64 && !arm64

package crypt

// Registers of other architectures stay as they are; SECURITY.md says so.
func fillRegisters() {}

func zeroUpperHalves() {}
