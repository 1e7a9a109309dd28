package fs

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// openFlags go with most opens: contents stay out of the page cache, and a close
// has nothing to flush (POSIX locks are the kernel's and not touched).
const openFlags = fuse.FOPEN_DIRECT_IO | fopenNoFlush

// openFlags are those of a handle that is open: who has a draft, or may begin
// one, says when it closes.
func (s *Server) openFlags(fh uint64) uint32 {
	if s.versions.drafts[fh] != nil || s.handles.fresh(fh) {
		return openFlags &^ fopenNoFlush
	}
	return openFlags
}

// openFile serves OPEN, also of an inode that has just lost its last name: the
// kernel found it while it had one.
func (s *Server) openFile(r *request) unix.Errno {
	n, errno := s.node(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	in := as[fuse.OpenIn](r.req)
	if s.readOnly != "" && in.Flags&(unix.O_ACCMODE|unix.O_TRUNC) != 0 {
		return unix.EROFS
	}
	s.openReply(r, s.opened(r, n, in.Flags, in.Mode))
	return 0
}

func (s *Server) openReply(r *request, flags uint32) {
	*as[fuse.OpenOut](r.small(sizeOf[fuse.OpenOut]())) = fuse.OpenOut{Fh: r.in.Unique, OpenFlags: flags}
}

// opened does what an open with these flags does to a file that exists, and
// returns the flags of the handle.
func (s *Server) opened(r *request, n *inode, flags, openIn uint32) uint32 {
	if !n.isRegular() {
		return openFlags
	}
	fh := r.in.Unique
	writes := flags&unix.O_ACCMODE != unix.O_RDONLY && flags&unix.O_APPEND == 0
	switch {
	case flags&unix.O_TRUNC == 0:
		if !s.cfg.WholeSaves || s.handles.find(fh) >= 0 {
			break
		}
		if writes {
			s.letGo(s.handles.put(fh, 0, 0))
		} else if flags&unix.O_ACCMODE == unix.O_RDONLY && n.size > 0 && n.size <= draftMost {
			s.letGo(s.handles.put(fh, n.data.id, 0)) // see source
		}
	case writes && s.mayDraft(n):
		s.beginDraft(r, n, fh, 0, now())
	default:
		s.settle(n)
		s.truncate(r, n)
	}
	if flags&unix.O_TRUNC != 0 && openIn&openKillSuidgid != 0 {
		n.killSuidgid(r)
		s.tx.put(n)
	}
	return s.openFlags(fh)
}

// truncate is O_TRUNC: it stamps the times even of an empty file.
func (s *Server) truncate(r *request, n *inode) {
	t := now()
	s.resize(r, n, 0, t)
	n.changed(t)
	s.tx.put(n)
}

func (s *Server) opendir(r *request) unix.Errno {
	if _, errno := s.node(r.in.NodeId); errno != 0 {
		return errno
	}
	*as[fuse.OpenOut](r.small(sizeOf[fuse.OpenOut]())) = fuse.OpenOut{}
	return 0
}

func (s *Server) readFile(r *request) unix.Errno {
	n, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	if !n.isRegular() {
		return unix.EINVAL
	}
	in := as[fuse.ReadIn](r.req)
	if in.Size > maxIO || in.Offset > math.MaxInt64 {
		return unix.EINVAL
	}
	from := n
	if in.ReadFlags&readLockOwner == 0 { // for the page cache: a file's own reads name their owner
		s.markMapped(n)
		if v := s.draftOf(n, in.Fh); v != nil {
			s.commit(v) // what it caches is everybody's
		}
	} else {
		from = s.source(r, n)
	}
	size := max(0, min(int64(in.Size), from.size-int64(in.Offset)))
	if errno := s.read(r, from, int64(in.Offset), r.big(int(size))); errno != 0 {
		r.reply = nil
		return errno
	}
	if size == 0 {
		s.atEnd(r, in.Fh)
	}
	s.touch(n, now(), in.Flags)
	return 0
}

func (s *Server) writeFile(r *request) unix.Errno {
	n, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	in := as[fuse.WriteIn](r.req)
	data := r.req[sizeOf[fuse.WriteIn]():]
	if !n.isRegular() || int(in.Size) != len(data) || in.Offset > math.MaxInt64-uint64(len(data)) {
		return unix.EINVAL
	}
	to, v, off := n, (*version)(nil), int64(in.Offset)
	if in.WriteFlags&writeCache != 0 {
		s.markMapped(n) // no draft can be mapped
	} else {
		to, v = s.target(n, in.Fh, off+int64(len(data)))
		if in.Flags&unix.O_APPEND != 0 && to.size <= math.MaxInt64-int64(len(data)) {
			off = to.size // the kernel may go by the size of a draft
		}
	}
	if off < to.size { // not an append: it replaces what was there
		to.grace = to.rewriteGrace()
	}
	wrote, errno := s.writeWhatFits(r, to, off, data)
	if wrote < len(data) && s.makeRoom(v, off+int64(wrote)) {
		if to != n && s.draftOf(n, in.Fh) == nil { // it made room
			to, v = n, nil
		}
		wrote, errno = s.writeWhatFits(r, to, off, data)
	}
	if errno == 0 {
		to.changed(now())
		if in.WriteFlags&writeKillSuidgid != 0 {
			n.killSuidgid(r)
			s.tx.put(n)
		}
		s.tx.put(to)
	}
	if v != nil {
		s.wrote(v, in.LockOwner, wrote < len(data))
	}
	r.done = uint64(wrote)
	*as[fuse.WriteOut](r.small(sizeOf[fuse.WriteOut]())) = fuse.WriteOut{Size: uint32(wrote)}
	return errno
}

// writeWhatFits leaves out what there is no room for, as tmpfs does; the caller
// sees a short count.
func (s *Server) writeWhatFits(r *request, n *inode, off int64, data []byte) (int, unix.Errno) {
	fits := s.fitting(n, off, len(data))
	if fits == 0 && len(data) > 0 {
		return 0, unix.ENOSPC
	}
	if errno := s.write(r, n, off, data[:fits]); errno != 0 {
		s.discard(r, n)
		return 0, errno
	}
	return fits, 0
}

// makeRoom takes from memory what could go, for a write that did not fit at an
// offset, and says whether there was anything: former versions or, if v and what
// is to be kept until v is whole are too much together, the latter. What was to
// be kept then cannot be: rewriting comes first.
func (s *Server) makeRoom(v *version, at int64) bool {
	switch {
	case s.discardFormer(true, time.Time{}):
	case v != nil && at < v.grace && v.of.pages() > 0:
		s.commit(v)
	default:
		return false
	}
	s.tx.commit() // cells and keys are free from here on
	return true
}

// fitting says how many of size bytes at off there is room for.
func (s *Server) fitting(n *inode, off int64, size int) int {
	if size == 0 {
		return 0
	}
	end := off + int64(size)
	first, last := uint64(off)/blockSize, uint64(end-1)/blockSize
	if s.reserve(n, n.data.missing(first, last), end) {
		return size
	}
	fits := off
	for idx := first; idx <= last; idx++ {
		pages, to := n.data.missing(first, idx), min(end, int64(idx+1)*blockSize)
		if !s.reserve(n, pages, to) {
			to = min(to, n.grace) // which may end within a page
			if to <= fits || !s.reserve(n, pages, to) {
				break
			}
		}
		fits = to
	}
	return int(fits - off)
}

// write seals data, locked memory, into n at off and extends it. The caller has
// seen to it that there is room. On an error nothing has changed and r.fresh is
// to be discarded.
func (s *Server) write(r *request, n *inode, off int64, data []byte) unix.Errno {
	end := off + int64(len(data))
	if len(data) == 0 {
		return 0
	}
	if errno := s.needKeys(r, n, uint64(off)/blockSize, uint64(end-1)/blockSize); errno != 0 {
		return errno
	}
	s.mem.Arena.Expect(len(data) / blockSize)
	for off < end {
		in := int(off % blockSize)
		chunk := data[:min(len(data), blockSize-in)]
		if errno := s.seal(r, n, uint64(off)/blockSize, in, chunk); errno != 0 {
			return errno
		}
		off += int64(len(chunk))
		data = data[len(chunk):]
	}
	clear(r.scratch)
	s.install(r, n)
	n.size = max(n.size, end)
	return 0
}

func (s *Server) statfs(r *request) unix.Errno {
	out := as[fuse.StatfsOut](r.small(sizeOf[fuse.StatfsOut]()))
	free := uint64(max(0, s.quotaPages-s.usedPages))
	*out = fuse.StatfsOut{
		Blocks: uint64(s.quotaPages), Bfree: free, Bavail: free,
		Files: uint64(s.inodeLimit), Ffree: uint64(max(0, s.inodeLimit-s.usedInodes)),
		Bsize: blockSize, Frsize: blockSize, NameLen: maxName,
	}
	return 0
}
