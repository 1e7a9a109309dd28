package crypt

import "encoding/binary"

// The AES-256 key schedule (FIPS 197, 5.2) without tables: an S-box look-up
// indexed by key bytes would show them to whoever shares the cache. Words stay
// in the byte order of the key, as the AES instructions read them.

const rounds256 = 14

// expandKey fills enc from a 32-byte key. Every word is written straight to
// its place, so that no run of the schedule exists anywhere else.
func expandKey(enc *[4 * (rounds256 + 1)]uint32, key []byte) {
	for i := range 8 {
		enc[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	rcon := uint32(1)
	for i := 8; i < len(enc); i++ {
		t := enc[i-1]
		switch i % 8 {
		case 0:
			t = subWord(t>>8|t<<24) ^ rcon
			rcon <<= 1
		case 4:
			t = subWord(t)
		}
		enc[i] = enc[i-8] ^ t
	}
}

// The S-box inverts in GF(2^8), which is cheap as a tower: GF(2^8) over GF(2^4)
// over GF(2^2), each step a quadratic extension. The columns below are the
// images of 1, x, x^2, ..., x^7, first from the field of AES into the tower,
// then from the tower back and through the S-box's affine map.
var (
	toTower   = [8]byte{0x01, 0x41, 0x66, 0x6c, 0x56, 0x9a, 0x58, 0xc4}
	fromTower = [8]byte{0x1f, 0x19, 0xb2, 0x9d, 0x7b, 0xf6, 0x21, 0x1c}
)

// subWord applies the S-box to the four bytes of w.
func subWord(w uint32) uint32 {
	return linear(invert(linear(w, &toTower)), &fromTower) ^ 0x63636363
}

// linear applies a linear map to each byte of w.
func linear(w uint32, columns *[8]byte) (r uint32) {
	for i, c := range columns {
		r ^= plane(w, i) * uint32(c)
	}
	return r
}

// plane returns bit i of each byte of w, in bit 0 of that byte.
func plane(w uint32, i int) uint32 { return w >> i & 0x01010101 }

// invert inverts the four bytes of w, elements of the tower (0 stays 0).
// An element is h·y + l with y² = y + wz; its inverse is (h·y + h + l) / n
// with the norm n = wz·h² + h·l + l².
func invert(w uint32) uint32 {
	h := gf16{gf4{plane(w, 7), plane(w, 6)}, gf4{plane(w, 5), plane(w, 4)}}
	l := gf16{gf4{plane(w, 3), plane(w, 2)}, gf4{plane(w, 1), plane(w, 0)}}
	hl := h.add(l)
	// h·l + l² = l·(h + l)
	d := h.square().timesWZ().add(l.mul(hl)).invert()
	h, l = h.mul(d), hl.mul(d)
	return h.h.h<<7 | h.h.l<<6 | h.l.h<<5 | h.l.l<<4 |
		l.h.h<<3 | l.h.l<<2 | l.l.h<<1 | l.l.l
}

// gf4 is h·w + l with w² = w + 1, one element in each byte.
type gf4 struct{ h, l uint32 }

func (a gf4) add(b gf4) gf4 { return gf4{a.h ^ b.h, a.l ^ b.l} }
func (a gf4) square() gf4   { return gf4{a.h, a.h ^ a.l} } // also the inverse
func (a gf4) timesW() gf4   { return gf4{a.h ^ a.l, a.h} }

func (a gf4) mul(b gf4) gf4 {
	l := a.l & b.l
	return gf4{(a.h^a.l)&(b.h^b.l) ^ l, a.h&b.h ^ l}
}

// gf16 is h·z + l with z² = z + w.
type gf16 struct{ h, l gf4 }

func (a gf16) add(b gf16) gf16 { return gf16{a.h.add(b.h), a.l.add(b.l)} }

func (a gf16) mul(b gf16) gf16 {
	h, l := a.h.mul(b.h), a.l.mul(b.l)
	return gf16{a.h.add(a.l).mul(b.h.add(b.l)).add(l), h.timesW().add(l)}
}

func (a gf16) square() gf16 {
	h := a.h.square()
	return gf16{h, h.timesW().add(a.l.square())}
}

// timesWZ multiplies by w·z: h·w·z² + l·w·z = (h + l)·w·z + h·w².
func (a gf16) timesWZ() gf16 {
	return gf16{a.h.add(a.l).timesW(), a.h.timesW().timesW()}
}

func (a gf16) invert() gf16 {
	hl := a.h.add(a.l)
	d := a.h.square().timesW().add(a.l.mul(hl)).square()
	return gf16{a.h.mul(d), hl.mul(d)}
}
