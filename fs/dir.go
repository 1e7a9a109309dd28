package fs

import (
	"slices"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

const (
	maxName    = 255
	direntCost = 20 // what an entry adds to a directory's size on tmpfs (BOGO_DIRENT_SIZE)

	// Directory positions: "." and ".." are 1 and 2.
	firstCookie = 3
)

// dirent is one name. Its cookie is its position for readdir: given out once,
// rising, and the same in the next process.
type dirent struct {
	name   string
	ino    uint64
	cookie uint64
}

// dir is the index of one directory.
type dir struct {
	parent uint64
	next   uint64 // the next cookie, less firstCookie
	names  map[string]*dirent
	order  []*dirent // by cookie; nil where an entry went away
	gone   int
}

func (d *dir) get(name []byte) *dirent { return d.names[string(name)] }

func (d *dir) insert(e *dirent) {
	if d.names == nil {
		d.names = make(map[string]*dirent)
	}
	d.names[e.name] = e
	i := len(d.order)
	if e.cookie < firstCookie+d.next { // takes the place of one that was replaced
		i = d.at(e.cookie)
	}
	d.order = slices.Insert(d.order, i, e)
	d.next = max(d.next, e.cookie-firstCookie+1)
}

// at returns the position in order of the first entry whose cookie is at least c.
func (d *dir) at(c uint64) int {
	// Holes have no cookie: look left of one for the nearest entry.
	lo, hi := 0, len(d.order)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		probe := mid
		for probe > lo && d.order[probe] == nil {
			probe--
		}
		if d.order[probe] == nil || d.order[probe].cookie < c {
			lo = mid + 1
		} else {
			hi = probe
		}
	}
	return lo
}

func (d *dir) remove(e *dirent) {
	delete(d.names, e.name)
	d.order[d.at(e.cookie)] = nil
	d.gone++
	if d.gone > 16 && d.gone > len(d.order)/2 {
		d.order = slices.DeleteFunc(d.order, func(e *dirent) bool { return e == nil })
		d.gone = 0
	}
}

// add names n in p, behind everything else; the caller stamps p.
func (s *Server) add(p *inode, name []byte, n *inode) {
	s.addAt(p, name, n, firstCookie+p.dir.next)
}

// addAt names n in p in place of what had that cookie: a reader of the
// directory meets the name once.
func (s *Server) addAt(p *inode, name []byte, n *inode, cookie uint64) {
	e := &dirent{name: string(name), ino: n.ino, cookie: cookie}
	p.dir.insert(e)
	p.size += direntCost
	if n.isDir() {
		p.nlink++
		n.dir.parent = p.ino
	}
	s.tx.name(p.ino, e)
	s.tx.put(p)
}

// take removes a name from p and says what it named; the caller stamps both.
func (s *Server) take(p *inode, e *dirent) *inode {
	n := s.inodes[e.ino]
	p.dir.remove(e)
	p.size -= direntCost
	if n.isDir() {
		p.nlink--
	}
	s.tx.unname(p.ino, e.cookie)
	s.tx.put(p)
	return n
}

// unlinked takes one name's worth of links off n.
func (s *Server) unlinked(n *inode, t stamp) {
	n.ctime = t
	if n.isDir() {
		n.nlink = 0
	} else {
		n.nlink--
		if n.nlink > 0 {
			s.usedInodes--
		}
	}
	s.tx.put(n)
	s.free(n)
}

// parent finds the directory a request names something in, and the name.
func (s *Server) parent(r *request, name []byte) (*inode, unix.Errno) {
	p, errno := s.node(r.in.NodeId)
	if errno != 0 {
		return nil, errno
	}
	return p, checkName(p, name)
}

func checkName(p *inode, name []byte) unix.Errno {
	switch {
	case !p.isDir():
		return unix.ENOTDIR
	case len(name) > maxName:
		return unix.ENAMETOOLONG
	case len(name) == 0 || string(name) == "." || string(name) == "..":
		return unix.EINVAL
	}
	return 0
}

// vacant checks that something new may be named in p.
func (s *Server) vacant(p *inode, name []byte) unix.Errno {
	if p.nlink == 0 {
		return unix.ENOENT // removed, but still somebody's working directory
	}
	if p.dir.get(name) != nil {
		return unix.EEXIST
	}
	if s.usedInodes >= s.inodeLimit {
		return unix.ENOSPC
	}
	return 0
}

func (s *Server) lookup(r *request) unix.Errno {
	p, errno := s.parent(r, r.name)
	if errno != 0 {
		return errno
	}
	e := p.dir.get(r.name)
	if e == nil {
		// Node 0 is ENOENT that the kernel may remember.
		out := as[fuse.EntryOut](r.small(sizeOf[fuse.EntryOut]()))
		*out = fuse.EntryOut{EntryValid: cacheSeconds}
		return 0
	}
	s.entryReply(r, s.inodes[e.ino])
	return 0
}

// enter makes n a new entry of p and answers with it.
func (s *Server) enter(r *request, p *inode, name []byte, n *inode) {
	s.add(p, name, n)
	p.changed(n.ctime)
	s.tx.put(n)
	s.entryReply(r, n)
}

func (s *Server) mkdir(r *request) unix.Errno {
	in := as[fuse.MkdirIn](r.req)
	p, errno := s.parent(r, r.name)
	if errno == 0 {
		errno = s.vacant(p, r.name)
	}
	if errno != 0 {
		return errno
	}
	s.enter(r, p, r.name, s.newInode(r, p, unix.S_IFDIR|in.Mode&^unix.S_IFMT, 0))
	return 0
}

func (s *Server) mknod(r *request) unix.Errno {
	in := as[fuse.MknodIn](r.req)
	p, errno := s.parent(r, r.name)
	if errno == 0 {
		errno = s.vacant(p, r.name)
	}
	if errno != 0 {
		return errno
	}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
	default:
		return unix.EINVAL
	}
	s.enter(r, p, r.name, s.newInode(r, p, in.Mode, in.Rdev))
	return 0
}

// create serves open(2) with O_CREAT: without O_EXCL it opens what another
// process made in the meantime.
func (s *Server) create(r *request) unix.Errno {
	in := as[fuse.CreateIn](r.req)
	p, errno := s.parent(r, r.name)
	if errno != 0 {
		return errno
	}
	if e := p.dir.get(r.name); e != nil && in.Flags&unix.O_EXCL == 0 {
		n := s.inodes[e.ino]
		if !n.isRegular() {
			return unix.EEXIST
		}
		s.createReply(r, n, s.opened(r, n, in.Flags, in.OpenFlags))
		return 0
	}
	if errno := s.vacant(p, r.name); errno != 0 {
		return errno
	}
	n := s.newInode(r, p, unix.S_IFREG|in.Mode&^unix.S_IFMT, 0)
	s.add(p, r.name, n)
	p.changed(n.ctime)
	s.tx.put(n)
	s.createReply(r, n, openFlags)
	return 0
}

func (s *Server) createReply(r *request, n *inode, flags uint32) {
	entry := sizeOf[fuse.EntryOut]()
	b := r.small(entry + sizeOf[fuse.OpenOut]())
	s.entry(r, n, as[fuse.EntryOut](b))
	*as[fuse.OpenOut](b[entry:]) = fuse.OpenOut{Fh: r.in.Unique, OpenFlags: flags}
}

// tmpfile serves O_TMPFILE: an inode that has no name yet.
func (s *Server) tmpfile(r *request) unix.Errno {
	in := as[fuse.CreateIn](r.req)
	p, errno := s.node(r.in.NodeId)
	switch {
	case errno != 0:
		return errno
	case !p.isDir():
		return unix.ENOTDIR
	case s.usedInodes >= s.inodeLimit:
		return unix.ENOSPC
	}
	n := s.newInode(r, p, unix.S_IFREG|in.Mode&^unix.S_IFMT, 0)
	n.nlink = 0
	s.tx.put(n)
	s.createReply(r, n, openFlags)
	return 0
}

func (s *Server) unlink(r *request) unix.Errno {
	p, errno := s.parent(r, r.name)
	if errno != 0 {
		return errno
	}
	e := p.dir.get(r.name)
	switch {
	case e == nil:
		return unix.ENOENT
	case s.inodes[e.ino].isDir():
		return unix.EISDIR
	}
	t := now()
	n := s.take(p, e)
	p.changed(t)
	s.unlinked(n, t)
	return 0
}

func (s *Server) rmdir(r *request) unix.Errno {
	p, errno := s.parent(r, r.name)
	if errno != 0 {
		return errno
	}
	e := p.dir.get(r.name)
	switch {
	case e == nil:
		return unix.ENOENT
	case !s.inodes[e.ino].isDir():
		return unix.ENOTDIR
	case len(s.inodes[e.ino].dir.names) > 0:
		return unix.ENOTEMPTY
	}
	t := now()
	n := s.take(p, e)
	p.changed(t)
	s.unlinked(n, t)
	return 0
}

func (s *Server) readdir(r *request) unix.Errno {
	p, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	if !p.isDir() {
		return unix.ENOTDIR
	}
	in := as[fuse.ReadIn](r.req)
	out := r.big(min(int(in.Size), maxIO))
	used := 0
	put := func(name string, ino, mode, cookie uint64) bool {
		size := (direntSize + len(name) + 7) &^ 7
		if used+size > len(out) {
			return false
		}
		d := as[dirent64](out[used:])
		*d = dirent64{Ino: ino, Off: cookie, NameLen: uint32(len(name)), Typ: uint32(mode&unix.S_IFMT) >> 12}
		n := copy(out[used+direntSize:], name)
		clear(out[used+direntSize+n : used+size])
		used += size
		return true
	}
	full := in.Offset < 1 && !put(".", p.ino, unix.S_IFDIR, 1) ||
		in.Offset < 2 && !put("..", p.dir.parent, unix.S_IFDIR, 2)
	for i := p.dir.at(in.Offset + 1); !full && i < len(p.dir.order); i++ {
		if e := p.dir.order[i]; e != nil {
			full = !put(e.name, e.ino, uint64(s.inodes[e.ino].mode), e.cookie)
		}
	}
	r.cutReply(used)
	s.touch(p, now(), in.Flags)
	return 0
}
