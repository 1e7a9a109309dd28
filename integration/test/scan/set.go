package scan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sort"
)

const (
	// Run is the number of consecutive bytes of a secret that count as found.
	Run = 16
	// Shortest is the shortest secret a Set takes. In 64 MiB of random bytes
	// four given ones turn up by chance once in 64 looks; three, four times in
	// every look.
	Shortest = 4

	// margin is carried from one buffer to the next, so that a run lying across
	// the seam is seen whole. A short secret fits in it entirely.
	margin = 4 * Run
)

// Set is a set of secrets to look for, all in one pass.
//
// A run of 15 bytes or more at any address contains a whole aligned word of 8,
// and one of 7 or more a whole aligned word of 4. So memory is looked at one
// aligned word at a time, and each word looked up among all words that occur in
// the secrets, at every offset. Only secrets of fewer than 7 bytes cost a look
// at every address.
type Set struct {
	blob    []byte // the secrets, back to back
	secrets []secret
	long    index // words of 8 bytes, from secrets of at least Run bytes
	short   index // words of 4 bytes, from the others
	step    int   // how far apart words of 4 bytes are looked at
}

type secret struct {
	start, end int // in blob
	label      string
	behind     string // what must lie gap bytes behind, for the secret to count
	gap        int
}

// Found is one place where a stretch of a secret lies.
type Found struct {
	Addr   uint64 // an address, or an offset in a file
	Len    int    // bytes that agree
	Label  string // of the secret
	Offset int    // in the secret
}

// Add makes the Set look for b, to be reported under label.
func (s *Set) Add(label string, b []byte) error {
	if len(b) < Shortest {
		return fmt.Errorf("a secret of %d bytes cannot be told from chance: use %d or more", len(b), Shortest)
	}
	start := len(s.blob)
	s.blob = append(s.blob, b...)
	s.secrets = append(s.secrets, secret{start: start, end: len(s.blob), label: label})
	if len(b) < Run {
		if s.step == 0 {
			s.step = 4
		}
		if len(b) < 7 {
			s.step = 1
		}
		for i := 0; i+4 <= len(b); i++ {
			s.short.add(uint64(binary.LittleEndian.Uint32(b[i:])), start+i)
		}
		return nil
	}
	words := 0
	for i := 0; i+8 <= len(b); i++ {
		w := binary.LittleEndian.Uint64(b[i:])
		if !telling(w) {
			continue
		}
		s.long.add(w, start+i)
		words++
	}
	if words == 0 {
		return fmt.Errorf("the secret %q is too uniform to be looked for: use random bytes", label)
	}
	return nil
}

// AddBehind makes the Set look for b, however short, where it lies gap bytes
// behind an anchor: eight bytes that are rare. The anchor alone is not reported.
func (s *Set) AddBehind(label string, anchor [8]byte, gap int, b []byte) error {
	w := binary.LittleEndian.Uint64(anchor[:])
	if !telling(w) || len(b) == 0 || gap+len(b) > margin-8 {
		return fmt.Errorf("cannot look for %d bytes %d behind %x", len(b), gap, anchor)
	}
	start := len(s.blob)
	s.blob = append(s.blob, anchor[:]...)
	s.secrets = append(s.secrets, secret{start, len(s.blob), label, string(b), gap})
	s.long.add(w, start)
	return nil
}

// telling reports whether w is varied enough to be looked up: memory is full
// of zeros and small numbers, and a secret's are no sign of it.
func telling(w uint64) bool {
	distinct := 0
	for i := range 8 {
		b := byte(w >> (8 * i))
		seen := false
		for j := range i {
			seen = seen || byte(w>>(8*j)) == b
		}
		if !seen {
			distinct++
		}
	}
	return distinct >= 4
}

// Len is the number of secrets in the Set.
func (s *Set) Len() int { return len(s.secrets) }

// Search reports every stretch of a secret in b, which lies at base, a
// multiple of 8.
func (s *Set) Search(b []byte, base uint64, found func(Found)) {
	if s.long.n > 0 {
		s.searchLong(b, base, found)
	}
	if s.short.n > 0 {
		s.searchShort(b, base, found)
	}
}

func (s *Set) searchLong(b []byte, base uint64, found func(Found)) {
	s.long.build()
	for i := 0; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if w == 0 || !s.long.maybe(w) {
			continue
		}
		best := Found{}
		s.long.each(w, func(pos int) {
			sec := s.secretAt(pos)
			if sec.behind != "" {
				at := i + 8 + sec.gap
				if at+len(sec.behind) <= len(b) && string(b[at:at+len(sec.behind)]) == sec.behind {
					found(Found{base + uint64(at), len(sec.behind), sec.label, 0})
				}
				return
			}
			lo, hi := 0, 8
			for i-lo > 0 && pos-lo > sec.start && b[i-lo-1] == s.blob[pos-lo-1] {
				lo++
			}
			for i+hi < len(b) && pos+hi < sec.end && b[i+hi] == s.blob[pos+hi] {
				hi++
			}
			if lo+hi >= Run && lo+hi > best.Len {
				best = Found{base + uint64(i-lo), lo + hi, sec.label, pos - lo - sec.start}
			}
		})
		if best.Len > 0 {
			found(best)
			// The words inside the run have nothing to add.
			i = max(i, (int(best.Addr-base)+best.Len)&^7-8)
		}
	}
}

func (s *Set) searchShort(b []byte, base uint64, found func(Found)) {
	s.short.build()
	last := ^uint64(0) // a secret of several words is met at each of them
	for i := 0; i+4 <= len(b); i += s.step {
		w := uint64(binary.LittleEndian.Uint32(b[i:]))
		if w == 0 || !s.short.maybe(w) {
			continue
		}
		s.short.each(w, func(pos int) {
			sec := s.secretAt(pos)
			at := i - (pos - sec.start)
			if n := sec.end - sec.start; at >= 0 && at+n <= len(b) && base+uint64(at) != last &&
				string(b[at:at+n]) == string(s.blob[sec.start:sec.end]) {
				last = base + uint64(at)
				found(Found{last, n, sec.label, 0})
			}
		})
	}
}

func (s *Set) secretAt(pos int) secret {
	return s.secrets[sort.Search(len(s.secrets), func(i int) bool { return s.secrets[i].end > pos })]
}

// index finds the positions of a word: an open-addressed table behind a bitmap
// that answers for nearly all words that are not there.
type index struct {
	n      int
	words  []uint64
	pos    []uint32 // position in the blob, plus one
	filter []uint64
	shift  int // hash to filter bit
	tshift int // hash to table slot

	pending []entry
}

type entry struct {
	word uint64
	pos  int
}

func (x *index) add(word uint64, pos int) {
	x.pending = append(x.pending, entry{word, pos})
	x.n++
}

// build makes the table, once after the last add.
func (x *index) build() {
	if x.words != nil && len(x.pending) == 0 {
		return
	}
	for i, p := range x.pos {
		if p != 0 {
			x.pending = append(x.pending, entry{x.words[i], int(p) - 1})
		}
	}
	tbits := bits.Len(uint(2 * x.n))
	fbits := max(tbits+2, 16) // one foreign word in ten passes; more bits would leave the cache
	x.words, x.pos = make([]uint64, 1<<tbits), make([]uint32, 1<<tbits)
	x.filter = make([]uint64, 1<<(fbits-6))
	x.shift, x.tshift = 64-fbits, 64-tbits
	for _, e := range x.pending {
		h := hash(e.word)
		x.filter[h>>x.shift>>6] |= 1 << (h >> x.shift & 63)
		i := int(h >> x.tshift)
		for x.pos[i] != 0 {
			i = (i + 1) & (len(x.pos) - 1)
		}
		x.words[i], x.pos[i] = e.word, uint32(e.pos)+1
	}
	x.pending = nil
}

func hash(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 }

func (x *index) maybe(w uint64) bool {
	h := hash(w) >> x.shift
	return x.filter[h>>6]>>(h&63)&1 != 0
}

func (x *index) each(w uint64, f func(pos int)) {
	for i := int(hash(w) >> x.tshift); x.pos[i] != 0; i = (i + 1) & (len(x.pos) - 1) {
		if x.words[i] == w {
			f(int(x.pos[i]) - 1)
		}
	}
}
