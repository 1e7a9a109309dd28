package fs

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// content is what a file holds: sealed blocks in order of their index, all
// under one data key. What is absent is a hole and reads as zeros; so does
// what lies between the end of a block's plaintext and the next block.
type content struct {
	key     crypt.Key
	version uint64 // names the key in AADs; never reused
	seals   uint32
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

func (n *inode) place(c *content, idx uint64) crypt.Place {
	return crypt.Place{Owner: n.ino, Version: c.version, Index: idx}
}

// open decrypts block b into dst, a locked page, zeroing what follows.
func (s *Server) open(n *inode, b *block, dst []byte) unix.Errno {
	if b.Cell == 0 {
		clear(dst)
		return 0
	}
	if err := s.mem.Arena.Open(n.data.key, n.place(&n.data, b.idx), &b.Sealed, dst); err != nil {
		s.logf("inode %d: block %d: %v: refusing to return it", n.ino, b.idx, err)
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
// under c's key. The result waits in r.fresh until install.
func (s *Server) seal(r *request, n *inode, c *content, idx uint64, in int, data []byte) unix.Errno {
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
	return s.sealFresh(r, n, c, idx, plain)
}

func (s *Server) sealFresh(r *request, n *inode, c *content, idx uint64, plain []byte) unix.Errno {
	i := len(r.fresh)
	r.fresh = append(r.fresh, block{idx: idx})
	if !s.mem.Arena.Seal(c.key, n.place(c, idx), plain, &r.fresh[i].Sealed) {
		return unix.ENOSPC
	}
	c.seals++
	return 0
}

// install makes r.fresh part of n's content; what it replaces is freed once
// the change is committed.
func (s *Server) install(r *request, n *inode) {
	c := &n.data
	for _, b := range r.fresh {
		pos, ok := c.find(b.idx)
		if ok {
			s.tx.freeCell(c.blocks[pos].Cell)
			c.blocks[pos] = b
		} else {
			c.blocks = slices.Insert(c.blocks, pos, b)
			s.usedPages++
		}
	}
	s.tx.blocks(n.ino, r.fresh)
	r.fresh = r.fresh[:0]
}

// discard gives back what a failed operation sealed.
func (s *Server) discard(r *request) {
	for _, b := range r.fresh {
		s.mem.Arena.Free(b.Cell)
	}
	r.fresh = r.fresh[:0]
}

// needKey gives c a data key if it has none, and another one before its key
// has sealed too much.
func (s *Server) needKey(r *request, n *inode) unix.Errno {
	if n.data.key != 0 && n.data.seals < maxSeals {
		return 0
	}
	if n.data.key == 0 {
		return s.newKey(&n.data)
	}
	return s.rekey(r, n, blocksIn(n.size), blockSize)
}

// maxSeals leaves the blocks of one request room below crypt's 2^28.
const maxSeals = 1<<28 - 1<<16

func (s *Server) newKey(c *content) unix.Errno {
	key, err := s.mem.Keys.New()
	if err != nil {
		return unix.ENOSPC
	}
	c.key, c.version, c.seals = key, s.nextVersion, 0
	s.nextVersion++
	return 0
}

// rekey keeps the first blocks of n, the last of them cut to tail bytes, and
// seals them under a new key; the old key goes, and with it all the rest.
func (s *Server) rekey(r *request, n *inode, keep uint64, tail int) unix.Errno {
	if errno := s.room(len(n.data.blocks)); errno != 0 {
		return errno
	}
	var c content
	if errno := s.newKey(&c); errno != 0 {
		return errno
	}
	end, _ := n.data.find(keep)
	for i := range n.data.blocks[:end] {
		b := &n.data.blocks[i]
		size := int(b.Len)
		if b.idx == keep-1 {
			size = min(size, tail)
		}
		if b.Cell == 0 || size == 0 {
			r.fresh = append(r.fresh, block{idx: b.idx})
			continue
		}
		errno := s.open(n, b, r.scratch)
		if errno == 0 {
			errno = s.sealFresh(r, n, &c, b.idx, r.scratch[:size])
		}
		if errno != 0 {
			s.discard(r)
			s.mem.Keys.Erase(c.key)
			return errno
		}
	}
	clear(r.scratch)
	s.dropContent(&n.data)
	s.tx.punch(n.ino, 0, noEnd)
	n.data.key, n.data.version, n.data.seals = c.key, c.version, c.seals
	s.install(r, n)
	s.tx.put(n)
	return 0
}

// dropContent forgets everything c holds, key included.
func (s *Server) dropContent(c *content) {
	for i := range c.blocks {
		s.tx.freeCell(c.blocks[i].Cell)
	}
	s.usedPages -= int64(len(c.blocks))
	s.tx.freeKey(c.key)
	const worthKeeping = 64 // entries; a cache that is rewritten again and again
	if cap(c.blocks) > worthKeeping {
		c.blocks = nil
	}
	*c = content{blocks: c.blocks[:0]}
}

// blocksIn is how many blocks size bytes take.
func blocksIn(size int64) uint64 { return (uint64(size) + blockSize - 1) / blockSize }

// noEnd is past every block index.
const noEnd = ^uint64(0)

// remove takes the entries from first up to end out of n.
func (s *Server) remove(n *inode, first, end uint64) {
	from, _ := n.data.find(first)
	to := len(n.data.blocks)
	if end != noEnd {
		to, _ = n.data.find(end)
	}
	if from == to {
		return
	}
	for i := from; i < to; i++ {
		s.tx.freeCell(n.data.blocks[i].Cell)
	}
	n.data.blocks = slices.Delete(n.data.blocks, from, to)
	s.usedPages -= int64(to - from)
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

// reserve says whether n may have pages more of space up to end.
func (s *Server) reserve(n *inode, pages, end int64) bool {
	return pages <= 0 || s.usedPages+pages <= s.quotaPages || end <= n.grace && s.usedPages+pages <= s.mostPages
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
			s.dropContent(&n.data)
			s.tx.punch(n.ino, 0, noEnd)
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
	lost := false
	from, _ := n.data.find(keep - 1)
	for _, b := range n.data.blocks[from:] {
		lost = lost || b.Cell != 0 && (b.idx >= keep || int(b.Len) > tail)
	}
	if lost {
		return s.rekey(r, n, keep, tail)
	}
	s.remove(n, keep, noEnd)
	return 0
}

// set, cut and fill are what the log's edits do.

func (c *content) set(b block) {
	pos, ok := c.find(b.idx)
	if ok {
		c.blocks[pos] = b
	} else {
		c.blocks = slices.Insert(c.blocks, pos, b)
	}
}

func (c *content) cut(first, end uint64) {
	from, _ := c.find(first)
	to := len(c.blocks)
	if end != noEnd {
		to, _ = c.find(end)
	}
	if from < to {
		c.blocks = slices.Delete(c.blocks, from, to)
	}
}
