package fs

import (
	"slices"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// A file's blocks are sealed under one data key for each extent of its index.
//
// Keys are how contents are erased, so where an extent ends decides two things.
// What a shrinking file loses cannot be opened once the operation is committed:
// the keys of the extents behind the end are zeroed, and what is kept of the one
// that the end lies in is sealed again under a new key. Zeroed cells alone would
// not do: the kernel may have copied the ciphertext elsewhere (swap, migrated
// pages), and a key opens every copy. And that work is the same for a file of
// any size: one extent at most. The same holds for a key that has sealed as
// often as it may.
//
// An extent is as long as a file may become whose rewriting is never refused: so
// that has one key, and there is one for each inode. The keys of the extents
// behind the first are counted, see farKeys.
const extentBlocks = (rewriteMax + rewriteExtra) / blockSize

// extentOf is the extent that a block lies in.
func extentOf(idx uint64) uint64 { return idx / extentBlocks }

// An extent has a key from the first block on that is sealed in it.
type extent struct {
	at       uint64 // its place: extentOf its blocks
	key      crypt.Key
	version  uint64 // names the key in AADs; never used again
	seals    uint32
	recorded bool // in the log, too
}

// farKeys is how many keys there are for extents behind a file's first: more
// than the quota has, so that only files made of holes can run out of them.
func farKeys(quota int64) int {
	pages := int(quota / blockSize)
	return min(pages, 1<<10+pages/64)
}

// findExtent returns where the extent at is, or where it would be inserted.
func (c *content) findExtent(at uint64) (int, bool) {
	if at < uint64(len(c.extents)) && c.extents[at].at == at {
		return int(at), true // a file without holes
	}
	return slices.BinarySearchFunc(c.extents, at, func(e extent, at uint64) int {
		switch {
		case e.at < at:
			return -1
		case e.at > at:
			return 1
		}
		return 0
	})
}

// extent is the one of a sealed block.
func (c *content) extent(idx uint64) *extent {
	if i, ok := c.findExtent(extentOf(idx)); ok {
		return &c.extents[i]
	}
	panic("internal error: a sealed block without a key")
}

// within returns the range of c's entries that lie in the extent at.
func (c *content) within(at uint64) (from, to int) {
	from, _ = c.find(at * extentBlocks)
	to, _ = c.find((at + 1) * extentBlocks)
	return from, to
}

// setExtent puts e in its place, which may be taken.
func (c *content) setExtent(e extent) {
	i, ok := c.findExtent(e.at)
	if ok {
		c.extents[i] = e
	} else {
		c.extents = slices.Insert(c.extents, i, e)
	}
}

func (c *content) dropExtent(at uint64) {
	if i, ok := c.findExtent(at); ok {
		c.extents = slices.Delete(c.extents, i, i+1)
	}
}

// covered returns the range of c's extents that lie wholly between two blocks.
func (c *content) covered(first, end uint64) (from, to int) {
	from, _ = c.findExtent((first + extentBlocks - 1) / extentBlocks)
	to = len(c.extents)
	if end != noEnd {
		to, _ = c.findExtent(end / extentBlocks)
	}
	return from, max(from, to)
}

// maxSeals leaves the blocks of one request room below crypt's 2^28.
const maxSeals = 1<<28 - 1<<16

// needKeys gives the extents of the blocks from first to last keys, and others
// to those whose keys have sealed enough.
func (s *Server) needKeys(r *request, n *inode, first, last uint64) unix.Errno {
	for at := extentOf(first); at <= extentOf(last); at++ {
		i, ok := n.data.findExtent(at)
		switch {
		case !ok:
			e, errno := s.newExtent(at)
			if errno != 0 {
				return errno
			}
			n.data.extents = slices.Insert(n.data.extents, i, e)
		case n.data.extents[i].seals >= maxSeals:
			if errno := s.rekey(r, n, at, noEnd, 0); errno != 0 {
				return errno
			}
		}
	}
	return 0
}

func (s *Server) newExtent(at uint64) (extent, unix.Errno) {
	if at > 0 && s.farKeys >= s.farLimit {
		return extent{}, unix.ENOSPC
	}
	key, version, errno := s.newKey()
	if errno == 0 && at > 0 {
		s.farKeys++
	}
	return extent{at: at, key: key, version: version}, errno
}

func (s *Server) newKey() (crypt.Key, uint64, unix.Errno) {
	key, err := s.mem.Keys.New()
	if err != nil {
		return 0, 0, unix.ENOSPC
	}
	s.nextVersion++
	return key, s.nextVersion - 1, 0
}

// rekey seals what the extent at holds before block keep under a new key, the
// last block of it cut to tail bytes. The old key goes, and with it what cannot
// be opened without; without anything to seal the extent has none.
func (s *Server) rekey(r *request, n *inode, at, keep uint64, tail int) unix.Errno {
	i, ok := n.data.findExtent(at)
	if !ok {
		return 0
	}
	e := extent{at: at}
	from, to := n.data.within(at)
	for j := from; j < to && n.data.blocks[j].idx < keep; j++ {
		b := &n.data.blocks[j]
		if b.Cell == 0 {
			continue
		}
		if e.key == 0 {
			var errno unix.Errno
			if e.key, e.version, errno = s.newKey(); errno != 0 {
				return errno
			}
		}
		size := int(b.Len)
		if b.idx+1 == keep {
			size = min(size, tail)
		}
		s.step()
		errno := s.open(n, b, r.scratch)
		if errno == 0 {
			errno = s.sealFresh(r, n, &e, b.idx, r.scratch[:size])
		}
		if errno != 0 {
			s.discard(r, n)
			s.mem.Keys.Erase(e.key)
			return errno
		}
	}
	clear(r.scratch)
	s.tx.freeKey(n.data.extents[i].key)
	if e.key == 0 {
		s.loseExtent(n, at)
		return 0
	}
	n.data.extents[i] = e
	s.install(r, n)
	return 0
}

// loseExtent takes the extent at off n; its key is the caller's to free.
func (s *Server) loseExtent(n *inode, at uint64) {
	n.data.dropExtent(at)
	s.tx.key(n.ino, &extent{at: at})
	if at > 0 {
		s.farKeys--
	}
}
