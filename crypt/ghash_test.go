package crypt

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// carrylessByBits is the school method.
func carrylessByBits(x, y uint64) (hi, lo uint64) {
	for i := range 64 {
		if x>>i&1 != 0 {
			hi ^= y >> (64 - i)
			lo ^= y << i
		}
	}
	return hi, lo
}

func TestCarryless(t *testing.T) {
	// All ones is the worst case for the holes.
	words := []uint64{0, 1, 1 << 63, ^uint64(0), 0x1111111111111111, 0x8888888888888888, 0xf << 60}
	for range 1000 {
		words = append(words, rand.Uint64(), rand.Uint64()|rand.Uint64()|rand.Uint64())
	}
	for _, x := range words[:100] {
		for _, y := range words {
			hi, lo := carryless(&x, &y)
			wantHi, wantLo := carrylessByBits(x, y)
			if hi != wantHi || lo != wantLo {
				t.Fatalf("%x times %x is %x %x, want %x %x", x, y, hi, lo, wantHi, wantLo)
			}
		}
	}
}

// ghashProduct multiplies as SP 800-38D, 6.3 words it. Elements are in the
// standard's bit order, in two big-endian words.
func ghashProduct(x, y [2]uint64) (z [2]uint64) {
	for i := range 128 {
		if x[i/64]>>(63-i%64)&1 != 0 {
			z[0] ^= y[0]
			z[1] ^= y[1]
		}
		carry := y[1] & 1
		y[1] = y[1]>>1 | y[0]<<63
		y[0] = y[0]>>1 ^ carry*(0xe1<<56)
	}
	return z
}

// The table's entries are the powers of H, each multiplied by x: undo nothing,
// but let the standard's product of H^i arrive at the same entry.
func TestFillPowers(t *testing.T) {
	for range 100 {
		h := [2]uint64{rand.Uint64(), rand.Uint64()}
		var table [8]power
		table[7][0], table[7][1] = bits.ReverseBytes64(h[0]), bits.ReverseBytes64(h[1])
		fillPowers(&table)
		p := h
		for i := 7; i >= 0; i-- {
			want := power{bits.ReverseBytes64(p[0]), bits.ReverseBytes64(p[1])}
			want.fromHashKey()
			if table[i] != want {
				t.Fatalf("power %d of %x is %x, want %x", 8-i, h, table[i], want)
			}
			p = ghashProduct(p, h)
		}
	}
}
