package fs

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// maxXattr is the longest value, XATTR_SIZE_MAX of xattr(7).
const maxXattr = 64 << 10

// xattrs holds an inode's extended attributes: names here, values sealed like
// contents. Each counts as one more inode: names are in memory, and there is a
// key for everyone.
type xattrs struct {
	list []xattr // by name
}

// xattr is one attribute. Its value has a key of its own, which goes when
// another value takes its place; so no key ever seals more than one value.
type xattr struct {
	name    string
	size    int
	key     crypt.Key
	version uint64 // names the key in AADs; never used again
	blocks  []crypt.Sealed
}

func (x *xattrs) find(name []byte) (int, bool) {
	if x == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(x.list, name, func(a xattr, name []byte) int {
		return strings.Compare(a.name, string(name))
	})
}

func (n *inode) xattrPlace(x *xattr, i int) crypt.Place {
	return crypt.Place{Owner: n.ino, Version: x.version, Index: uint64(i)}
}

// checkXattr refuses what tmpfs does not store.
func checkXattr(name []byte) unix.Errno {
	for _, ns := range []string{"user.", "trusted.", "security."} {
		if rest, ok := bytes.CutPrefix(name, []byte(ns)); ok {
			if len(rest) == 0 {
				return unix.EINVAL
			}
			return 0
		}
	}
	return unix.EOPNOTSUPP
}

func (s *Server) setxattr(r *request) unix.Errno {
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	if errno := checkXattr(r.name); errno != 0 {
		return errno
	}
	in := as[setxattrIn](r.req)
	switch {
	case len(r.rest) != int(in.Size):
		return unix.EINVAL
	case len(r.name) > maxName:
		return unix.ERANGE
	case in.Size > maxXattr:
		return unix.E2BIG
	}
	pos, ok := n.xattrs.find(r.name)
	switch {
	case ok && in.Flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case !ok && in.Flags&unix.XATTR_REPLACE != 0:
		return unix.ENODATA
	}
	pages := int64(in.Size+blockSize-1) / blockSize
	if ok {
		pages -= int64(len(n.xattrs.list[pos].blocks))
	}
	if !s.reserve(n, pages, noGrace) || !ok && s.usedInodes >= s.inodeLimit {
		return unix.ENOSPC
	}
	fresh, errno := s.sealXattr(n, r.name, r.rest)
	if errno != 0 {
		return errno
	}
	s.usedPages += pages
	if ok {
		s.freeXattr(&n.xattrs.list[pos])
	} else {
		s.usedInodes++
	}
	n.setXattr(fresh)
	n.ctime = now()
	s.tx.xattr(n.ino, &fresh)
	s.tx.put(n)
	return 0
}

// sealXattr seals a value straight from the request slot.
func (s *Server) sealXattr(n *inode, name, value []byte) (xattr, unix.Errno) {
	x := xattr{name: string(name), size: len(value)}
	var errno unix.Errno
	if x.key, x.version, errno = s.newKey(); errno != 0 {
		return x, errno
	}
	x.blocks = make([]crypt.Sealed, 0, (len(value)+blockSize-1)/blockSize)
	for chunk := range slices.Chunk(value, blockSize) {
		i := len(x.blocks)
		x.blocks = append(x.blocks, crypt.Sealed{})
		if !s.sealCell(x.key, n.xattrPlace(&x, i), chunk, &x.blocks[i]) {
			for _, b := range x.blocks {
				s.mem.Arena.Free(b.Cell)
			}
			s.mem.Keys.Erase(x.key)
			return xattr{}, unix.ENOSPC
		}
	}
	return x, 0
}

func (s *Server) freeXattr(x *xattr) {
	s.tx.freeKey(x.key)
	for _, b := range x.blocks {
		s.tx.freeCell(b.Cell)
	}
}

func (s *Server) getxattr(r *request) unix.Errno {
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	if errno := checkXattr(r.name); errno != 0 {
		return errno
	}
	pos, ok := n.xattrs.find(r.name)
	if !ok {
		return unix.ENODATA
	}
	x := &n.xattrs.list[pos]
	out, errno := r.sized(x.size)
	if errno != 0 || out == nil {
		return errno
	}
	for i := range x.blocks {
		if err := s.mem.Arena.Open(x.key, n.xattrPlace(x, i), &x.blocks[i], out[i*blockSize:]); err != nil {
			if s.foundAltered() {
				s.logf("inode %d: extended attribute: %v: refusing to return it", n.ino, err)
			}
			r.reply = nil
			return unix.EIO
		}
	}
	return 0
}

// sized answers a request whose caller may ask for the size first: nil and no
// error means that the answer is given.
func (r *request) sized(size int) ([]byte, unix.Errno) {
	want := min(int(as[getxattrIn](r.req).Size), maxXattr)
	if want == 0 {
		*as[getxattrOut](r.small(sizeOf[getxattrOut]())) = getxattrOut{Size: uint32(size)}
		return nil, 0
	}
	if want < size {
		return nil, unix.ERANGE
	}
	return r.big(size), 0
}

func (s *Server) listxattr(r *request) unix.Errno {
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	size := 0
	n.eachXattr(r, func(name string) { size += len(name) + 1 })
	out, errno := r.sized(size)
	if errno == 0 && out != nil {
		out = out[:0]
		n.eachXattr(r, func(name string) { out = append(append(out, name...), 0) })
	}
	return errno
}

// eachXattr goes through those that the caller of r may see.
func (n *inode) eachXattr(r *request, f func(name string)) {
	if n.xattrs == nil {
		return
	}
	for i := range n.xattrs.list {
		if name := n.xattrs.list[i].name; r.in.Uid == 0 || !strings.HasPrefix(name, "trusted.") {
			f(name)
		}
	}
}

func (s *Server) removexattr(r *request) unix.Errno {
	n, errno := s.nodeOrHandle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	if errno := checkXattr(r.name); errno != 0 {
		return errno
	}
	pos, ok := n.xattrs.find(r.name)
	if !ok {
		return unix.ENODATA
	}
	x := n.xattrs.list[pos]
	s.freeXattr(&x)
	s.usedPages -= int64(len(x.blocks))
	s.usedInodes--
	n.unsetXattr(x.name)
	n.ctime = now()
	s.tx.unxattr(n.ino, x.name)
	s.tx.put(n)
	return 0
}

// dropXattrs forgets all of n's.
func (s *Server) dropXattrs(n *inode) {
	if n.xattrs == nil {
		return
	}
	for i := range n.xattrs.list {
		x := &n.xattrs.list[i]
		s.freeXattr(x)
		s.usedPages -= int64(len(x.blocks))
	}
	s.usedInodes -= len(n.xattrs.list)
	n.xattrs = nil
	s.tx.unxattrs(n.ino)
}

// setXattr, unsetXattr and setting to nil are what the log's edits do.

func (n *inode) setXattr(a xattr) {
	if n.xattrs == nil {
		n.xattrs = &xattrs{}
	}
	pos, ok := n.xattrs.find([]byte(a.name))
	if ok {
		n.xattrs.list[pos] = a
	} else {
		n.xattrs.list = slices.Insert(n.xattrs.list, pos, a)
	}
}

func (n *inode) unsetXattr(name string) bool {
	pos, ok := n.xattrs.find([]byte(name))
	if ok {
		n.xattrs.list = slices.Delete(n.xattrs.list, pos, pos+1)
	}
	if ok && len(n.xattrs.list) == 0 {
		n.xattrs = nil
	}
	return ok
}
