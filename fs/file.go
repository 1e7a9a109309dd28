package fs

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// openFlags go with every open: contents stay out of the page cache, and a
// close has nothing to flush (POSIX locks are the kernel's and not touched).
const openFlags = fuse.FOPEN_DIRECT_IO | fopenNoFlush

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
	if in.Flags&unix.O_TRUNC != 0 && n.isRegular() {
		s.truncate(r, n, in.Mode&openKillSuidgid != 0)
	}
	out := as[fuse.OpenOut](r.small(sizeOf[fuse.OpenOut]()))
	*out = fuse.OpenOut{OpenFlags: openFlags}
	return 0
}

// truncate is O_TRUNC: it stamps the times even of an empty file.
func (s *Server) truncate(r *request, n *inode, kill bool) {
	t := now()
	s.resize(r, n, 0, t)
	if kill {
		n.killSuidgid(r)
	}
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
	size := max(0, min(int64(in.Size), n.size-int64(in.Offset)))
	if in.ReadFlags&readLockOwner == 0 {
		s.markMapped(n) // for the page cache: a file's own reads name their owner
	}
	if errno := s.read(r, n, int64(in.Offset), r.big(int(size))); errno != 0 {
		r.reply = nil
		return errno
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
	if in.WriteFlags&writeCache != 0 {
		s.markMapped(n)
	}
	if int64(in.Offset) < n.size { // not an append: it replaces what was there
		n.grace = n.rewriteGrace()
	}
	// What does not fit is left out, as on tmpfs; the caller sees a short count.
	data = data[:s.fitting(n, int64(in.Offset), len(data))]
	if len(data) == 0 && in.Size != 0 {
		return unix.ENOSPC
	}
	if errno := s.write(r, n, int64(in.Offset), data); errno != 0 {
		s.discard(r, n)
		return errno
	}
	n.changed(now())
	if in.WriteFlags&writeKillSuidgid != 0 {
		n.killSuidgid(r)
	}
	s.tx.put(n)
	r.done = uint64(len(data))
	*as[fuse.WriteOut](r.small(sizeOf[fuse.WriteOut]())) = fuse.WriteOut{Size: uint32(len(data))}
	return 0
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

// release has nothing to release; pages that a mapping left behind go.
func (s *Server) release(r *request) unix.Errno {
	if n, ok := s.inodes[r.in.NodeId]; ok && n.mapped {
		s.notify(Notice{Ino: n.ino})
	}
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
