package fs

import (
	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

func (s *Server) symlink(r *request) unix.Errno {
	target, _, ok := cstring(r.rest)
	if !ok || len(target) == 0 {
		return unix.EINVAL
	}
	p, errno := s.parent(r, r.name)
	if errno == 0 {
		errno = s.vacant(p, r.name)
	}
	switch {
	case errno != 0:
		return errno
	case len(target) >= unix.PathMax:
		return unix.ENAMETOOLONG
	case len(target) > shortSymlink && (s.usedPages >= s.quotaPages || s.usedTargets+len(target) > s.targetLimit()):
		return unix.ENOSPC
	}
	sealed, errno := s.sealTarget(target)
	if errno != 0 {
		return errno
	}
	n := s.newInode(r, p, unix.S_IFLNK|0o777, 0)
	s.aim(n, sealed)
	s.enter(r, p, r.name, n)
	return 0
}

// target is where a symlink leads to. It is sealed like contents, under a key of
// its own; but it lies in the index and in the log, not in a cell: most are short.
type target struct {
	key     crypt.Key
	version uint64 // names the key in AADs
	sealed  []byte
}

// place has no owner: the key opens nothing else.
func (t *target) place() crypt.Place { return crypt.Place{Version: t.version} }

// size is that of the plaintext.
func (t *target) size() int { return max(len(t.sealed)-crypt.InlineOverhead, 0) }

func (s *Server) sealTarget(plain []byte) (t target, errno unix.Errno) {
	if t.key, t.version, errno = s.newKey(); errno == 0 {
		t.sealed = s.mem.Arena.SealInline(t.key, t.place(), plain)
	}
	return t, errno
}

// aim gives a new symlink its target.
func (s *Server) aim(n *inode, t target) {
	n.target = t
	n.size = int64(t.size())
	s.usedPages += n.pages()
	s.usedTargets += n.longTarget()
	s.tx.target(n)
}

func (s *Server) readlink(r *request) unix.Errno {
	n, errno := s.node(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	if !n.isSymlink() {
		return unix.EINVAL
	}
	if err := s.mem.Arena.OpenInline(n.target.key, n.target.place(), n.target.sealed, r.big(n.target.size())); err != nil {
		if s.foundAltered() {
			s.logf("inode %d: target: %v: refusing to return it", n.ino, err)
		}
		r.reply = nil
		return unix.EIO
	}
	s.touch(n, now(), 0)
	return 0
}

func (s *Server) link(r *request) unix.Errno {
	n, errno := s.node(as[fuse.LinkIn](r.req).Oldnodeid)
	if errno != 0 {
		return errno
	}
	p, errno := s.parent(r, r.name)
	switch {
	case errno != 0:
		return errno
	case n.isDir():
		return unix.EPERM
	case n.nlink == 0 && s.usedInodes == s.inodeLimit && p.nlink != 0 && p.dir.get(r.name) == nil:
		// An O_TMPFILE inode is counted already; nothing more is needed.
	default:
		if errno := s.vacant(p, r.name); errno != 0 {
			return errno
		}
	}
	if n.nlink > 0 {
		s.usedInodes++ // every further name counts as an inode, as on tmpfs
	}
	n.nlink++
	n.ctime = now()
	s.enter(r, p, r.name, n)
	return 0
}

// rename serves RENAME and RENAME2.
func (s *Server) rename(r *request) unix.Errno {
	var newdir uint64
	var flags uint32
	if r.in.Opcode == opRename2 {
		in := as[fuse.RenameIn](r.req)
		newdir, flags = in.Newdir, in.Flags
	} else {
		newdir = as[renameIn](r.req).Newdir
	}
	to, _, ok := cstring(r.rest)
	if !ok {
		return unix.EINVAL
	}
	op, errno := s.parent(r, r.name)
	if errno != 0 {
		return errno
	}
	np, errno := s.node(newdir)
	if errno == 0 {
		errno = checkName(np, to)
	}
	if errno != 0 {
		return errno
	}
	oe, ne := op.dir.get(r.name), np.dir.get(to)
	switch {
	case flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE|unix.RENAME_WHITEOUT) != 0,
		flags&unix.RENAME_EXCHANGE != 0 && flags != unix.RENAME_EXCHANGE:
		return unix.EINVAL
	case oe == nil, np.nlink == 0:
		return unix.ENOENT
	case ne == nil && flags == unix.RENAME_EXCHANGE:
		return unix.ENOENT
	case ne != nil && flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	case ne != nil && ne.ino == oe.ino:
		return 0 // two names of one file: rename(2) does nothing
	case s.within(np, oe.ino) || ne != nil && s.within(op, ne.ino):
		return unix.EINVAL
	case flags&unix.RENAME_WHITEOUT != 0 && s.usedInodes >= s.inodeLimit:
		return unix.ENOSPC
	}
	if flags == unix.RENAME_EXCHANGE {
		s.exchange(op, oe, np, ne)
		return 0
	}
	if ne != nil {
		if errno := replaceable(s.inodes[oe.ino], s.inodes[ne.ino]); errno != 0 {
			return errno
		}
	}
	t := now()
	name := append([]byte(nil), r.name...)
	n := s.take(op, oe)
	cookie := firstCookie + np.dir.next
	if ne != nil {
		cookie = ne.cookie
		s.unlinked(s.take(np, ne), t)
	}
	s.addAt(np, to, n, cookie)
	n.ctime = t
	s.tx.put(n)
	if flags&unix.RENAME_WHITEOUT != 0 {
		s.add(op, name, s.whiteout(r, op))
	}
	op.changed(t)
	np.changed(t)
	return 0
}

// within says whether directory p is inode ino or lies below it. The kernel
// never asks for a directory to become its own descendant, but a tree with a
// loop in it would be beyond repair.
func (s *Server) within(p *inode, ino uint64) bool {
	for ; p != nil && p.ino != rootIno; p = s.inodes[p.dir.parent] {
		if p.ino == ino {
			return true
		}
	}
	return false
}

func replaceable(n, old *inode) unix.Errno {
	switch {
	case n.isDir() && !old.isDir():
		return unix.ENOTDIR
	case !n.isDir() && old.isDir():
		return unix.EISDIR
	case old.isDir() && len(old.dir.names) > 0:
		return unix.ENOTEMPTY
	}
	return 0
}

// exchange swaps what two names refer to.
func (s *Server) exchange(op *inode, oe *dirent, np *inode, ne *dirent) {
	t := now()
	oname, nname := []byte(oe.name), []byte(ne.name)
	a, b := s.take(op, oe), s.take(np, ne)
	s.addAt(np, nname, a, ne.cookie)
	s.addAt(op, oname, b, oe.cookie)
	for _, n := range []*inode{a, b} {
		n.ctime = t
		s.tx.put(n)
	}
	op.changed(t)
	np.changed(t)
}

// whiteout is what an overlay filesystem leaves where it moved a file away.
func (s *Server) whiteout(r *request, p *inode) *inode {
	n := s.newInode(r, p, unix.S_IFCHR, 0)
	s.tx.put(n)
	return n
}
