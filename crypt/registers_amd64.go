//lint:file-ignore U1000 the assembly uses them

package crypt

import "golang.org/x/sys/cpu"

// vectors is how wide the registers are that CPU and kernel have.
var vectors = widest()

const (
	vectorsSSE = iota
	vectorsAVX
	vectorsAVX512
)

func widest() uint8 {
	switch {
	case cpu.X86.HasAVX512F:
		return vectorsAVX512
	case cpu.X86.HasAVX:
		return vectorsAVX
	}
	return vectorsSSE
}

// fillRegisters fills the vector and mask registers with ones.
func fillRegisters()

// zeroUpperHalves tells the CPU that only the lowest 128 bits are in use.
func zeroUpperHalves()
