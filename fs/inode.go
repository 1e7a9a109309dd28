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
