package fs

import (
	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

func (s *Server) getattr(r *request) unix.Errno {
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	in := as[fuse.GetAttrIn](r.req)
	var fh uint64
	if in.Flags&fuse.FUSE_GETATTR_FH != 0 {
		fh = in.Fh
	}
	s.attrReply(r, n, fh)
	return 0
}

func (s *Server) attrReply(r *request, n *inode, fh uint64) {
	out := as[fuse.AttrOut](r.small(sizeOf[fuse.AttrOut]()))
	seen, valid := s.seen(r, n, fh)
	out.AttrValid = valid
	n.attr(&out.Attr, seen)
}

// seen is which contents of n the caller is told of, and for how many seconds the
// kernel may tell everybody the same. A draft is known by its handle and, as
// fstat(2) names none, to the thread that has begun it.
func (s *Server) seen(r *request, n *inode, fh uint64) (*inode, uint64) {
	if n.versions == 0 {
		return n, cacheSeconds
	}
	v := s.draftOf(n, fh)
	if v == nil {
		v = s.draftBy(n, r.in.Pid)
	}
	if v == nil {
		return n, 0
	}
	return v.inode, 0
}

// entryReply tells the kernel of a node and counts the reference it now holds.
func (s *Server) entryReply(r *request, n *inode) {
	s.entry(r, n, as[fuse.EntryOut](r.small(sizeOf[fuse.EntryOut]())))
}

func (s *Server) entry(r *request, n *inode, out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.ino, 1
	seen, valid := s.seen(r, n, 0)
	out.EntryValid, out.AttrValid = cacheSeconds, valid
	n.attr(&out.Attr, seen)
	r.looked = n.ino
}

func (s *Server) statx(r *request) unix.Errno {
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	in := as[fuse.StatxIn](r.req)
	var fh uint64
	if in.GetattrFlags&fuse.FUSE_GETATTR_FH != 0 {
		fh = in.Fh
	}
	out := as[fuse.StatxOut](r.small(sizeOf[fuse.StatxOut]()))
	seen, valid := s.seen(r, n, fh)
	out.AttrValid = valid
	sx := &out.Statx
	sx.Mask = statxBasicAndBtime
	sx.Blksize, sx.Nlink, sx.Uid, sx.Gid = blockSize, n.nlink, n.uid, n.gid
	sx.Mode, sx.Ino, sx.Size, sx.Blocks = uint16(n.mode), n.ino, uint64(seen.size), seen.blocks512()
	sx.RdevMajor, sx.RdevMinor = unix.Major(decodeDev(n.rdev)), unix.Minor(decodeDev(n.rdev))
	for _, p := range []struct {
		to   *fuse.SxTime
		from stamp
	}{{&sx.Atime, n.atime}, {&sx.Btime, n.btime}, {&sx.Ctime, seen.ctime}, {&sx.Mtime, seen.mtime}} {
		p.to.Sec, p.to.Nsec = uint64(p.from.sec), p.from.nsec
	}
	return 0
}

// decodeDev undoes the kernel's new_encode_dev.
func decodeDev(rdev uint32) uint64 {
	return unix.Mkdev(rdev>>8&0xfff, rdev&0xff|rdev>>12&0xfff00)
}

// setattr serves chmod, chown, truncate and utimensat. The kernel has checked
// that the caller may (default_permissions, setattr_prepare).
func (s *Server) setattr(r *request) unix.Errno {
	in := as[fuse.SetAttrInCommon](r.req)
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	var fh uint64
	if in.Valid&fuse.FATTR_FH != 0 {
		fh = in.Fh
	}
	t := now()
	if in.Valid&fuse.FATTR_SIZE != 0 {
		if errno := s.setSize(r, n, fh, t); errno != 0 {
			return errno
		}
	}
	if in.Valid&fattrKillSuidgid != 0 {
		n.killSuidgid(r)
	}
	if in.Valid&fuse.FATTR_MODE != 0 {
		n.mode = n.mode&unix.S_IFMT | in.Mode&^unix.S_IFMT
	}
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		if in.Valid&fuse.FATTR_MODE == 0 {
			n.killSuidgid(r)
		}
		if in.Valid&fuse.FATTR_UID != 0 {
			n.uid = in.Uid
		}
		if in.Valid&fuse.FATTR_GID != 0 {
			n.gid = in.Gid
		}
	}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		n.atime = stamp{int64(in.Atime), in.Atimensec}
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			n.atime = t
		}
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		mtime := stamp{int64(in.Mtime), in.Mtimensec}
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			mtime = t
		}
		if v := s.draftBy(n, r.in.Pid); v != nil { // and to nobody else, yet
			s.setMtime(v, mtime)
		} else {
			n.mtime = mtime
		}
	}
	const changing = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_ATIME | fuse.FATTR_MTIME
	// chown(-1, -1): the kernel has left nothing of it and checked nothing.
	if in.Valid&(changing|fuse.FATTR_SIZE) == 0 && (r.in.Uid == 0 || r.in.Uid == n.uid) {
		n.killSuidgid(r)
		n.ctime = t
	}
	if in.Valid&changing != 0 {
		n.ctime = t
	}
	s.tx.put(n)
	s.attrReply(r, n, fh)
	return 0
}

// setSize is the part of setattr that truncate(2) and ftruncate(2) are.
func (s *Server) setSize(r *request, n *inode, fh uint64, t stamp) unix.Errno {
	in := as[fuse.SetAttrInCommon](r.req)
	if in.Size == 0 && s.handles.fresh(fh) && s.mayDraft(n) {
		s.beginDraft(r, n, fh, in.LockOwner, t)
		return 0
	}
	to, v := s.target(n, fh, int64(in.Size))
	if errno := s.resize(r, to, int64(in.Size), t); errno != 0 {
		return errno
	}
	// To the size that it has: tmpfs stamps, but for truncate(2) of a file
	// without pages.
	if fh != 0 || len(to.data.blocks) > 0 {
		to.changed(t)
		s.tx.put(to)
	}
	if v != nil {
		s.wrote(v, in.LockOwner, false)
	}
	return 0
}
