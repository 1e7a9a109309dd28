package crypt

// fillRegisters fills the vector registers with ones.
func fillRegisters()

// zeroUpperHalves is of use on amd64 only.
func zeroUpperHalves() {}
