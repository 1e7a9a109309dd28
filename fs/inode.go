package fs

import (
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

const (
	rootIno   = 1
	blockSize = crypt.BlockSize

	// Every change comes through this mount or is notified, so the kernel may
	// keep names and attributes for long. It is asked to look again after a
	// minute for the one case in which a notice can be lost: a process that is
	// killed between erasing a path and giving notice of it.
	cacheSeconds = 60
)

// stamp is a time in nanoseconds as the kernel sends it: seconds before 1970
// are negative.
type stamp struct {
	sec  int64
	nsec uint32
}

func now() stamp {
	t := time.Now()
	return stamp{t.Unix(), uint32(t.Nanosecond())}
}

func (a stamp) before(b stamp) bool {
	return a.sec < b.sec || a.sec == b.sec && a.nsec < b.nsec
}

func (a stamp) time() time.Time { return time.Unix(a.sec, int64(a.nsec)) }

// inode is what the index keeps of one; its number is its FUSE node id. Most
// open files need no state of their own, see handle.go and draft.go: the kernel
// holds a lookup reference for each, and I/O names the node.
type inode struct {
	ino                        uint64
	mode, uid, gid, rdev       uint32
	nlink                      uint32
	size                       int64
	atime, mtime, ctime, btime stamp
	lookups                    uint64 // references the kernel holds

	data     content // regular files
	grace    int64   // size up to which a rewrite is never refused for lack of space
	versions int     // how many it has beside that

	target target // symlinks
	dir    *dir   // directories
	xattrs *xattrs

	mapped bool // may have pages in the page cache: a mapping read or wrote it
	dirty  bool // is among tx.dirty
}

func (n *inode) isDir() bool     { return n.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *inode) isRegular() bool { return n.mode&unix.S_IFMT == unix.S_IFREG }
func (n *inode) isSymlink() bool { return n.mode&unix.S_IFMT == unix.S_IFLNK }

// blocks counts 512-byte units, as tmpfs does: whole pages of contents, and one
// page for a symlink that does not fit into the inode.
func (n *inode) blocks512() uint64 {
	return uint64(n.pages()) * (blockSize / 512)
}

// shortSymlink is the longest target that tmpfs keeps in the inode
// (SHORT_SYMLINK_LEN in mm/shmem.c, less the NUL).
const shortSymlink = 127

// longTarget is how long a symlink's target is, if it is not a short one. It counts
// a page, as on tmpfs; but it is in the index, and until that is compacted several
// times in the log, so all together are limited, too.
func (n *inode) longTarget() int {
	if n.target.size() <= shortSymlink {
		return 0
	}
	return n.target.size()
}

// targetLimit is 2 MiB of 64.
func (s *Server) targetLimit() int { return int(s.quotaPages * blockSize / 32) }

// pages is what the inode's contents count against the quota.
func (n *inode) pages() int64 {
	if n.longTarget() > 0 {
		return 1
	}
	return int64(len(n.data.blocks))
}

// attr writes n's attributes, as far as they are of its contents those of seen.
func (n *inode) attr(a *fuse.Attr, seen *inode) {
	*a = fuse.Attr{
		Ino: n.ino, Size: uint64(seen.size), Blocks: seen.blocks512(), Blksize: blockSize,
		Mode: n.mode, Nlink: n.nlink, Rdev: n.rdev,
		Owner: fuse.Owner{Uid: n.uid, Gid: n.gid},
		Atime: uint64(n.atime.sec), Atimensec: n.atime.nsec,
		Mtime: uint64(seen.mtime.sec), Mtimensec: seen.mtime.nsec,
		Ctime: uint64(seen.ctime.sec), Ctimensec: seen.ctime.nsec,
	}
}

// changed stamps what a change of the contents stamps.
func (n *inode) changed(t stamp) { n.mtime, n.ctime = t, t }

// touch stamps an access the way a relatime mount does: when the last one is
// older than the last change, or than a day (relatime_need_update in the VFS).
// flags are the open file's.
func (s *Server) touch(n *inode, t stamp, flags uint32) {
	recent := n.mtime.before(n.atime) && n.ctime.before(n.atime) && t.sec-n.atime.sec < 24*60*60
	if recent || s.cfg.NoAtime || flags&unix.O_NOATIME != 0 {
		return
	}
	n.atime = t
	s.tx.put(n)
}

// killSuidgid clears what a write or a chown by the caller of r takes away:
// set-user-id, and set-group-id if the group may execute the file or the caller
// is not of it (setattr_should_drop_sgid in the VFS). Of the caller's groups a
// request names only the first.
func (n *inode) killSuidgid(r *request) {
	if n.isDir() {
		return
	}
	n.mode &^= unix.S_ISUID
	if n.mode&unix.S_IXGRP != 0 || r.in.Uid != 0 && r.in.Gid != n.gid {
		n.mode &^= unix.S_ISGID
	}
}

// newInode makes an inode for the caller of r; it is nobody's entry yet.
func (s *Server) newInode(r *request, parent *inode, mode, rdev uint32) *inode {
	return s.makeInode(r.in.Uid, r.in.Gid, parent, mode, rdev)
}

func (s *Server) makeInode(uid, gid uint32, parent *inode, mode, rdev uint32) *inode {
	t := now()
	s.reserveIno()
	n := &inode{ino: s.nextIno, mode: mode, rdev: rdev, uid: uid, gid: gid,
		atime: t, mtime: t, ctime: t, btime: t, nlink: 1, data: content{id: s.nextIno}}
	s.nextIno++
	if parent != nil && parent.mode&unix.S_ISGID != 0 { // inode_init_owner
		n.gid = parent.gid
		if n.isDir() {
			n.mode |= unix.S_ISGID
		}
	}
	if n.isDir() {
		n.nlink = 2
		n.size = 2 * direntCost
		n.dir = &dir{parent: parent.ino}
	}
	s.inodes[n.ino] = n
	s.usedInodes++
	if n.isRegular() {
		s.files++
	}
	s.tx.write(n)
	return n
}

// free drops an inode that has neither names nor references.
func (s *Server) free(n *inode) {
	if n.nlink != 0 || n.lookups != 0 || n.ino == rootIno {
		return
	}
	s.discardVersions(n)
	s.dropContent(n)
	s.dropXattrs(n)
	if n.isSymlink() {
		s.usedPages -= n.pages()
		s.usedTargets -= n.longTarget()
		s.tx.freeKey(n.target.key)
	}
	delete(s.inodes, n.ino)
	s.usedInodes--
	if n.isRegular() {
		s.files--
	}
	s.tx.drop(n)
}

// getattr, statx

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
