package scan

// window passes adjoining pieces of memory to the sets, each with the end of
// the one before it.
type window struct {
	s    *scanner
	r    Region
	buf  []byte
	next uint64 // where the next piece must begin to adjoin
	kept int    // bytes of the last piece in front of it
}

func (s *scanner) window(r Region) *window {
	return &window{s: s, r: r, buf: make([]byte, margin+1<<20), next: ^uint64(0)}
}

// room is where to read the next piece to, of at most n bytes.
func (w *window) room(n uint64) []byte {
	return w.buf[margin : margin+min(n, uint64(len(w.buf)-margin))]
}

// add searches the n bytes read into room, from address at.
func (w *window) add(at uint64, n int) {
	if w.next != at {
		w.kept = 0
	}
	b := w.buf[margin-w.kept : margin+n]
	for _, set := range w.s.sets {
		set.Search(b, at-uint64(w.kept), func(f Found) {
			if f.Addr+uint64(f.Len) > at { // else it was seen with the last piece
				w.s.rep.Hits = append(w.s.rep.Hits, Hit{f, w.r})
			}
		})
	}
	w.s.rep.Bytes += int64(n)
	w.kept = min(margin, n) &^ 7
	copy(w.buf[margin-w.kept:margin], w.buf[margin+n-w.kept:margin+n])
	w.next = at + uint64(n)
}
