package crypt

import "testing"

// sbox computes the S-box from its definition (FIPS 197, 5.1.1), with none of
// the shortcuts of the code under test.
func sbox(x byte) byte {
	multiply := func(a, b byte) (r byte) {
		for ; b != 0; b >>= 1 {
			if b&1 != 0 {
				r ^= a
			}
			carry := a >> 7
			a = a<<1 ^ carry*0x1b
		}
		return r
	}
	inverse := byte(0)
	for y := range 256 {
		if multiply(x, byte(y)) == 1 {
			inverse = byte(y)
		}
	}
	r := byte(0x63)
	for i := range 5 {
		r ^= inverse<<i | inverse>>(8-i)
	}
	return r
}

func TestSubWord(t *testing.T) {
	for x := range 256 {
		// A different value in each of the four places.
		in := [4]byte{byte(x), byte(x + 85), byte(x * 3), byte(255 - x)}
		var w, want uint32
		for i, b := range in {
			w |= uint32(b) << (8 * i)
			want |= uint32(sbox(b)) << (8 * i)
		}
		if got := subWord(w); got != want {
			t.Fatalf("subWord(%08x) = %08x, want %08x", w, got, want)
		}
	}
}
