package crypt

import "math/bits"

// bitmap is a set of small integers that hands out the lowest one not in it.
type bitmap struct {
	words []uint64
	hint  int // no free bit below words[hint]
}

func (b *bitmap) set(i int) {
	for i/64 >= len(b.words) {
		b.words = append(b.words, 0)
	}
	b.words[i/64] |= 1 << (i % 64)
}

func (b *bitmap) unset(i int) {
	b.words[i/64] &^= 1 << (i % 64)
	b.hint = min(b.hint, i/64)
}

func (b *bitmap) has(i int) bool {
	return i/64 < len(b.words) && b.words[i/64]&(1<<(i%64)) != 0
}

func (b *bitmap) firstFree() int {
	for ; b.hint < len(b.words); b.hint++ {
		if w := b.words[b.hint]; w != ^uint64(0) {
			return b.hint*64 + bits.TrailingZeros64(^w)
		}
	}
	return len(b.words) * 64
}

func (b *bitmap) reset() {
	clear(b.words)
	b.words = b.words[:0]
	b.hint = 0
}
