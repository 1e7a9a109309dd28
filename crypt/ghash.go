package crypt

import (
	"math/bits"
	"runtime"
)

// GHASH, rewritten as POLYVAL (RFC 8452, appendix A): reverse the bytes of the
// hash key H, multiply it by x, and the bits stand in their natural order. The
// product of two elements is then a·b·x^-128 modulo x^128+x^127+x^126+x^121+1,
// whose division by x^128 is two shifts and exclusive ors for each half.

// power is one entry of the table that GCM's assembly multiplies with: an
// element in two words, then twice the sum of the words for Karatsuba's method.
// While an entry is being computed it holds the 256-bit product.
type power [4]uint64

// words returns the places of an element's low and high word, which differ: the
// assembly of arm64 wants the high one first. Elsewhere no table has this form,
// and checkInPlace sees that.
func (p *power) words() (low, high *uint64) {
	if runtime.GOARCH == "arm64" {
		return &p[1], &p[0]
	}
	return &p[0], &p[1]
}

// fillPowers computes entry i as the (8-i)th power of the hash key, given H as
// AES made it in the first two words of the last entry. Intermediate values
// never leave the table but as single words.
func fillPowers(t *[8]power) {
	h := &t[7]
	h.fromHashKey()
	for i := 6; i >= 0; i-- {
		t[i].multiply(&t[i+1], h)
	}
}

func (p *power) fromHashKey() {
	high, low := bits.ReverseBytes64(p[0]), bits.ReverseBytes64(p[1])
	carry := -(high >> 63)
	p.set(low<<1^carry&1, high<<1^low>>63^carry&(0xc2<<56))
}

func (p *power) set(low, high uint64) {
	l, h := p.words()
	*l, *h = low, high
	p[2] = low ^ high
	p[3] = low ^ high
}

// multiply sets p to the product of a and b, neither of which may be p.
func (p *power) multiply(a, b *power) {
	aLow, aHigh := a.words()
	bLow, bHigh := b.words()
	p[1], p[0] = carryless(aLow, bLow)
	p[3], p[2] = carryless(aHigh, bHigh)
	high, low := carryless(&a[2], &b[2])
	low ^= p[0] ^ p[2]
	high ^= p[1] ^ p[3]
	p[1] ^= low
	p[2] ^= high
	for i := range 2 {
		// Adding p[i] times the modulus cancels word i.
		w := p[i]
		p[i+1] ^= w<<63 ^ w<<62 ^ w<<57
		p[i+2] ^= w ^ w>>1 ^ w>>2 ^ w>>7
	}
	p.set(p[2], p[3])
}

// carryless multiplies polynomials over GF(2) with integer multiplications,
// which take the same time for all operands. Each operand is split into four
// with one bit in four, so that the carries of a sum of up to 15 terms fall
// into the holes; x's top four bits, which would make it 16, are multiplied one
// by one. Operands are passed by address: two words that are arguments could
// be spilled side by side on the stack.
func carryless(x, y *uint64) (hi, lo uint64) {
	const holes = 0x1111111111111111
	for i := 60; i < 64; i++ {
		h, l := bits.Mul64(*x&(1<<i), *y)
		hi ^= h
		lo ^= l
	}
	mask := uint64(holes)
	for range 4 {
		// The bits of x under mask i and those of y under mask j are those of
		// the product under mask i+j modulo 4.
		h0, l0 := bits.Mul64(*x&(holes>>4), *y&mask)
		h1, l1 := bits.Mul64(*x&(holes>>4<<1), *y&bits.RotateLeft64(mask, -1))
		h2, l2 := bits.Mul64(*x&(holes>>4<<2), *y&bits.RotateLeft64(mask, -2))
		h3, l3 := bits.Mul64(*x&(holes>>4<<3), *y&bits.RotateLeft64(mask, -3))
		hi ^= (h0 ^ h1 ^ h2 ^ h3) & mask
		lo ^= (l0 ^ l1 ^ l2 ^ l3) & mask
		mask <<= 1
	}
	return hi, lo
}
