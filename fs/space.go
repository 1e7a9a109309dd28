package fs

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// fallocate sets space aside or punches a hole; tmpfs can do no more either.
func (s *Server) fallocate(r *request) unix.Errno {
	n, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	in := as[fuse.FallocateIn](r.req)
	if in.Mode&^(unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE) != 0 {
		return unix.EOPNOTSUPP
	}
	if !n.isRegular() || in.Offset > math.MaxInt64 || in.Length > math.MaxInt64-in.Offset || in.Length == 0 {
		return unix.EINVAL
	}
	punch := in.Mode&unix.FALLOC_FL_PUNCH_HOLE != 0
	if punch && in.Mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		return unix.EOPNOTSUPP
	}
	off, end := int64(in.Offset), int64(in.Offset+in.Length)
	to, v := s.target(n, in.Fh, end)
	if punch {
		errno = s.punchHole(r, to, off, end)
	} else {
		errno = s.preallocate(to, off, end)
		if errno == 0 && in.Mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
			to.size = max(to.size, end)
		}
	}
	if errno == 0 {
		to.changed(now())
		if r.in.Uid != 0 {
			n.killSuidgid(r)
			s.tx.put(n)
		}
		s.tx.put(to)
	} else {
		s.discard(r, to)
	}
	if v != nil && (errno != 0 || v.has(draftWritten)) { // space alone is nothing to read
		s.wrote(v, v.owner, errno != 0)
	}
	return errno
}

// preallocate gives every index without an entry an empty one.
func (s *Server) preallocate(n *inode, off, end int64) unix.Errno {
	first, last := uint64(off)/blockSize, uint64(end-1)/blockSize
	pages := n.data.missing(first, last)
	if pages > s.quotaPages || !s.reserve(n, pages, end) {
		return unix.ENOSPC
	}
	const step = 16 << 10
	for at := first; at <= last; at += step {
		s.usedPages += n.data.fill(at, min(at+step-1, last))
		s.step()
	}
	s.tx.prealloc(n.ino, first, last)
	return 0
}

// fill adds the entries that are absent from first to last and counts them.
func (c *content) fill(first, last uint64) int64 {
	from, _ := c.find(first)
	to, ok := c.find(last)
	if ok {
		to++
	}
	merged := make([]block, 0, last-first+1)
	rest := c.blocks[from:to]
	for idx := first; idx <= last; idx++ {
		if len(rest) > 0 && rest[0].idx == idx {
			merged = append(merged, rest[0])
			rest = rest[1:]
		} else {
			merged = append(merged, block{idx: idx})
		}
	}
	added := len(merged) - (to - from)
	c.blocks = slices.Replace(c.blocks, from, to, merged...)
	return int64(added)
}

// punchHole zeroes parts of blocks and drops whole ones.
func (s *Server) punchHole(r *request, n *inode, off, end int64) unix.Errno {
	first, last := (off+blockSize-1)/blockSize, end/blockSize // whole blocks
	if first > last {
		return s.zero(r, n, off, end)
	}
	if errno := s.zero(r, n, off, first*blockSize); errno != 0 {
		return errno
	}
	if errno := s.zero(r, n, last*blockSize, end); errno != 0 {
		return errno
	}
	s.remove(n, uint64(first), uint64(last))
	return 0
}

// zero overwrites part of one block, if it is there.
func (s *Server) zero(r *request, n *inode, off, end int64) unix.Errno {
	if off >= end {
		return 0
	}
	pos, ok := n.data.find(uint64(off) / blockSize)
	if !ok || n.data.blocks[pos].Cell == 0 {
		return 0
	}
	idx := n.data.blocks[pos].idx
	if errno := s.needKeys(r, n, idx, idx); errno != 0 {
		return errno
	}
	b := &n.data.blocks[pos]
	if errno := s.open(n, b, r.scratch); errno != 0 {
		return errno
	}
	from := int(off % blockSize)
	clear(r.scratch[from : from+int(end-off)])
	if errno := s.sealFresh(r, n, n.data.extent(idx), idx, r.scratch[:b.Len]); errno != 0 {
		return errno
	}
	clear(r.scratch)
	s.install(r, n)
	return 0
}

// lseek answers SEEK_DATA and SEEK_HOLE in blocks, as tmpfs does in pages.
func (s *Server) lseek(r *request) unix.Errno {
	n, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	in := as[fuse.LseekIn](r.req)
	if v := s.draftOf(n, in.Fh); v != nil {
		n = v.inode
	}
	off := int64(in.Offset)
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return unix.EINVAL
	}
	if off < 0 || off >= n.size {
		return unix.ENXIO
	}
	pos, _ := n.data.find(uint64(off) / blockSize)
	at := off
	if in.Whence == unix.SEEK_DATA {
		for ; pos < len(n.data.blocks) && n.data.blocks[pos].Cell == 0; pos++ {
		}
		if pos == len(n.data.blocks) || int64(n.data.blocks[pos].idx)*blockSize >= n.size {
			return unix.ENXIO
		}
		at = max(off, int64(n.data.blocks[pos].idx)*blockSize)
	} else {
		idx := uint64(off) / blockSize
		for ; pos < len(n.data.blocks) && n.data.blocks[pos].idx == idx && n.data.blocks[pos].Cell != 0; pos++ {
			idx++
		}
		if idx < blocksIn(n.size) {
			at = max(off, int64(idx)*blockSize)
		} else {
			at = n.size
		}
	}
	as[fuse.LseekOut](r.small(sizeOf[fuse.LseekOut]())).Offset = uint64(at)
	return 0
}

// copyMax is how much one COPY_FILE_RANGE copies: the caller asks for the rest.
const copyMax = 1 << 20

func (s *Server) copyFileRange(r *request) unix.Errno {
	in := as[fuse.CopyFileRangeIn](r.req)
	src, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	dst, errno := s.handle(in.NodeIdOut)
	if errno != 0 {
		return errno
	}
	if !src.isRegular() || !dst.isRegular() || in.OffIn > math.MaxInt64 || in.OffOut > math.MaxInt64 {
		return unix.EINVAL
	}
	from, to := int64(in.OffIn), int64(in.OffOut)
	target, v := s.target(dst, in.FhOut, to+int64(min(in.Len, copyMax)))
	held := src
	if v := s.draftOf(src, in.FhIn); v != nil {
		held = v.inode
	}
	size := max(0, min(int64(min(in.Len, copyMax)), held.size-from, math.MaxInt64-to))
	if size > 0 {
		errno := s.copyRange(r, held, target, from, to, size)
		if errno == 0 {
			t := now()
			target.changed(t)
			if r.in.Uid != 0 {
				dst.killSuidgid(r)
				s.tx.put(dst)
			}
			s.tx.put(target)
			s.touch(src, t, 0)
			// The kernel drops what it had cached of dst on its own.
		} else {
			s.discard(r, target)
		}
		if v != nil {
			s.wrote(v, v.owner, errno != 0)
		}
		if errno != 0 {
			return errno
		}
	}
	r.done = uint64(size)
	*as[fuse.WriteOut](r.small(sizeOf[fuse.WriteOut]())) = fuse.WriteOut{Size: uint32(size)}
	return 0
}

// copyRange goes block by block of the destination, so that each is composed
// once. The ranges do not overlap within one file: the kernel saw to that.
func (s *Server) copyRange(r *request, src, dst *inode, from, to, size int64) unix.Errno {
	end := to + size
	if !s.reserve(dst, dst.data.missing(uint64(to)/blockSize, uint64(end-1)/blockSize), end) {
		return unix.ENOSPC
	}
	if errno := s.needKeys(r, dst, uint64(to)/blockSize, uint64(end-1)/blockSize); errno != 0 {
		return errno
	}
	for to < end {
		in := int(to % blockSize)
		chunk := r.copy[:min(int(end-to), blockSize-in)]
		if errno := s.read(r, src, from, chunk); errno != 0 {
			return errno
		}
		if errno := s.seal(r, dst, uint64(to)/blockSize, in, chunk); errno != 0 {
			return errno
		}
		from += int64(len(chunk))
		to += int64(len(chunk))
	}
	clear(r.copy)
	clear(r.scratch)
	s.install(r, dst)
	dst.size = max(dst.size, end)
	return 0
}
