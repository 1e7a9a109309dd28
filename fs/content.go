package fs

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// content is what a file holds: sealed blocks in order of their index, and the
// keys of its extents. What is absent is a hole and reads as zeros; so does
// what lies between the end of a block's plaintext and the next block.
type content struct {
	id      uint64 // names them in AADs; contents that move to another inode keep it
	extents []extent
	blocks  []block
}

// block is one entry; with Cell 0 it is space that fallocate(2) set aside.
type block struct {
	idx uint64
	crypt.Sealed
}

// find returns where idx is, or where it would be inserted.
func (c *content) find(idx uint64) (int, bool) {
	if idx < uint64(len(c.blocks)) && c.blocks[idx].idx == idx {
		return int(idx), true // a file without holes
	}
	return slices.BinarySearchFunc(c.blocks, idx, func(b block, idx uint64) int {
		switch {
		case b.idx < idx:
			return -1
		case b.idx > idx:
			return 1
		}
		return 0
	})
}

// missing counts how many of the indexes from first to last have no entry.
func (c *content) missing(first, last uint64) int64 {
	from, _ := c.find(first)
	to, ok := c.find(last)
	if ok {
		to++
	}
	return int64(last-first+1) - int64(to-from)
}

func (n *inode) place(e *extent, idx uint64) crypt.Place {
	return crypt.Place{Owner: n.data.id, Version: e.version, Index: idx}
}

// open decrypts block b into dst, a locked page, zeroing what follows.
func (s *Server) open(n *inode, b *block, dst []byte) unix.Errno {
	if b.Cell == 0 {
		clear(dst)
		return 0
	}
	e := n.data.extent(b.idx)
	if err := s.mem.Arena.Open(e.key, n.place(e, b.idx), &b.Sealed, dst); err != nil {
		if s.foundAltered() {
			s.logf("inode %d: block %d: %v: refusing to return it", n.ino, b.idx, err)
		}
		return unix.EIO
	}
	clear(dst[b.Len:])
	return 0
}

// read fills dst, locked memory, from what n holds at off. The caller has cut
// dst at the end of the file.
func (s *Server) read(r *request, n *inode, off int64, dst []byte) unix.Errno {
	pos, _ := n.data.find(uint64(off) / blockSize)
	for len(dst) > 0 {
		idx, in := uint64(off)/blockSize, int(off%blockSize)
		chunk := dst[:min(len(dst), blockSize-in)]
		switch {
		case pos >= len(n.data.blocks) || n.data.blocks[pos].idx != idx:
			clear(chunk)
		case len(chunk) == blockSize:
			if errno := s.open(n, &n.data.blocks[pos], chunk); errno != 0 {
				return errno
			}
			pos++
		default:
			if errno := s.open(n, &n.data.blocks[pos], r.scratch); errno != 0 {
				return errno
			}
			copy(chunk, r.scratch[in:])
			clear(r.scratch)
			pos++
		}
		off += int64(len(chunk))
		dst = dst[len(chunk):]
	}
	return 0
}

// seal composes the new plaintext of one block, data at offset in, and seals it
// under the key that needKeys gave its extent. The result waits in r.fresh until
// install.
func (s *Server) seal(r *request, n *inode, idx uint64, in int, data []byte) unix.Errno {
	plain := data
	pos, ok := n.data.find(idx)
	if old := 0; in > 0 || ok && int(n.data.blocks[pos].Len) > len(data) {
		clear(r.scratch)
		if ok {
			old = int(n.data.blocks[pos].Len)
			if errno := s.open(n, &n.data.blocks[pos], r.scratch); errno != 0 {
				return errno
			}
		}
		copy(r.scratch[in:], data)
		plain = r.scratch[:max(old, in+len(data))]
	}
	return s.sealFresh(r, n, n.data.extent(idx), idx, plain)
}

func (s *Server) sealFresh(r *request, n *inode, e *extent, idx uint64, plain []byte) unix.Errno {
	i := len(r.fresh)
	r.fresh = append(r.fresh, block{idx: idx})
	if !s.sealCell(e.key, n.place(e, idx), plain, &r.fresh[i].Sealed) {
		return unix.ENOSPC
	}
	e.seals++
	return 0
}

// sealCell seals one block into a cell. It zeroes two that were left for later
// first, so that what is in use and what was left never grow together.
func (s *Server) sealCell(key crypt.Key, p crypt.Place, plain []byte, sealed *crypt.Sealed) bool {
	s.freeLeft(2)
	if s.mem.Arena.Seal(key, p, plain, sealed) {
		return true
	}
	for s.freeLeft(freeAtOnce) {
		s.step()
	}
	return s.mem.Arena.Seal(key, p, plain, sealed)
}

// install makes r.fresh, in order of the index, part of n's content; what it
// replaces is freed once the change is committed.
func (s *Server) install(r *request, n *inode) {
	c := &n.data
	var last *extent
	for _, b := range r.fresh {
		if last == nil || last.at != extentOf(b.idx) {
			last = c.extent(b.idx)
			s.tx.key(n.ino, last)
		}
		if pos, ok := c.find(b.idx); ok {
			s.tx.freeCell(c.blocks[pos].Cell)
		} else {
			s.usedPages++
		}
	}
	c.set(r.fresh)
	s.tx.blocks(n.ino, r.fresh)
	r.fresh = r.fresh[:0]
}

// discard gives back what a failed operation sealed, and the keys that it drew.
func (s *Server) discard(r *request, n *inode) {
	for _, b := range r.fresh {
		s.mem.Arena.Free(b.Cell)
	}
	r.fresh = r.fresh[:0]
	n.data.extents = slices.DeleteFunc(n.data.extents, func(e extent) bool {
		if e.recorded {
			return false
		}
		s.mem.Keys.Erase(e.key)
		if e.at > 0 {
			s.farKeys--
		}
		return true
	})
}

// dropContent forgets everything n holds, keys included.
func (s *Server) dropContent(n *inode) {
	if len(n.data.blocks)+len(n.data.extents) == 0 {
		return
	}
	s.remove(n, 0, noEnd)
	const worthKeeping = 64 // entries; a cache that is rewritten again and again
	if cap(n.data.blocks) > worthKeeping {
		n.data = content{id: n.data.id}
	}
}

// empty is nothing under that number, in the memory of c, which holds nothing.
func (c *content) empty(id uint64) content {
	return content{id: id, extents: c.extents[:0], blocks: c.blocks[:0]}
}

// blocksIn is how many blocks size bytes take.
func blocksIn(size int64) uint64 { return (uint64(size) + blockSize - 1) / blockSize }

// noEnd is past every block index.
const noEnd = ^uint64(0)

// remove takes the entries from first up to end out of n, and the keys of the
// extents that lie wholly there.
func (s *Server) remove(n *inode, first, end uint64) {
	c := &n.data
	from, to := c.between(first, end)
	for i := from; i < to; i++ {
		s.tx.freeCell(c.blocks[i].Cell)
	}
	low, high := c.covered(first, end)
	for _, e := range c.extents[low:high] {
		s.tx.freeKey(e.key)
		if e.at > 0 {
			s.farKeys--
		}
	}
	if from == to && low == high {
		return
	}
	s.usedPages -= int64(to - from)
	c.cut(first, end)
	s.tx.punch(n.ino, first, end)
}

// Rewriting is never refused: most clients truncate their cache first and
// write it then, others write over it and truncate last, and an error in
// between would cost the old token.
const (
	rewriteMax   = 1 << 20   // size of a file that enjoys it
	rewriteExtra = 256 << 10 // how much it may grow
)

// spareFor is how much can be held beyond the quota by rewrites.
func spareFor(inodes int) int64 { return int64(inodes) * (rewriteMax + rewriteExtra) }

// noGrace is an end that no rewrite reaches.
const noGrace = math.MaxInt64

// rewriteGrace is the grace that a rewrite of n as it is now earns it.
func (n *inode) rewriteGrace() int64 {
	if n.size > rewriteMax {
		return n.grace
	}
	return max(n.grace, n.size+rewriteExtra)
}

// reserve says whether n may have pages more of space up to end. A draft may have
// what its file has, which goes when the draft takes its place.
func (s *Server) reserve(n *inode, pages, end int64) bool {
	if pages <= 0 {
		return true
	}
	var spare int64
	if v := s.versions.all[n.ino]; v != nil {
		spare = v.of.pages()
	}
	return s.usedPages-spare+pages <= s.quotaPages || end <= n.grace && s.usedPages+pages <= s.mostPages
}

// resize sets n's size, erasing what a smaller one cuts off.
func (s *Server) resize(r *request, n *inode, size int64, t stamp) unix.Errno {
	switch {
	case size == n.size:
		// fallocate may have left space beyond the end.
		s.remove(n, blocksIn(size), noEnd)
		return 0
	case size < n.size:
		grace := n.rewriteGrace()
		if size == 0 {
			s.dropContent(n)
		} else if errno := s.cut(r, n, size); errno != 0 {
			return errno
		}
		n.grace = grace
	}
	n.size = size
	n.changed(t)
	s.tx.put(n)
	return 0
}

// cut drops what lies at and after size, which is not 0.
func (s *Server) cut(r *request, n *inode, size int64) unix.Errno {
	keep := blocksIn(size)
	tail := int(size - int64(keep-1)*blockSize)
	at := extentOf(keep - 1)
	lost := false
	from, to := n.data.within(at)
	for _, b := range n.data.blocks[from:to] {
		lost = lost || b.Cell != 0 && (b.idx >= keep || b.idx == keep-1 && int(b.Len) > tail)
	}
	if lost {
		if errno := s.rekey(r, n, at, keep, tail); errno != 0 {
			return errno
		}
	}
	s.remove(n, keep, noEnd)
	return 0
}

// between returns the range of c's entries from first up to end.
func (c *content) between(first, end uint64) (from, to int) {
	from, _ = c.find(first)
	to = len(c.blocks)
	if end != noEnd {
		to, _ = c.find(end)
	}
	return from, max(from, to)
}

// set, cut and fill are what the log's edits do.

// set takes blocks in order of their index. A run of them without a gap, which
// is what there is but after a rekey, moves what lies behind it once.
func (c *content) set(list []block) {
	for len(list) > 0 {
		run := 1
		for run < len(list) && list[run].idx == list[0].idx+uint64(run) {
			run++
		}
		from, to := c.between(list[0].idx, list[0].idx+uint64(run))
		if to-from == run {
			copy(c.blocks[from:], list[:run])
		} else {
			c.blocks = slices.Replace(c.blocks, from, to, list[:run]...)
		}
		list = list[run:]
	}
}

func (c *content) cut(first, end uint64) {
	from, to := c.between(first, end)
	c.blocks = slices.Delete(c.blocks, from, to)
	low, high := c.covered(first, end)
	c.extents = slices.Delete(c.extents, low, high)
}
