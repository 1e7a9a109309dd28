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
// contents, under a key of their own because a truncation must not take them.
// Each counts as one more inode: names are in memory, and there is a key for
// everyone.
type xattrs struct {
	content // key, version, seals; no blocks
	seq     uint32
	list    []xattr // by name
}

// xattr is one attribute. seq tells its value from all earlier ones.
type xattr struct {
	name   string
	size   int
	seq    uint32
	blocks []crypt.Sealed
}

func (x *xattrs) find(name []byte) (int, bool) {
	if x == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(x.list, name, func(a xattr, name []byte) int {
		return strings.Compare(a.name, string(name))
	})
}

func (n *inode) xattrPlace(seq uint32, i int) crypt.Place {
	return crypt.Place{Owner: n.ino, Version: n.xattrs.version, Index: uint64(seq)<<32 | uint64(i)}
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
	if n.xattrs == nil {
		x := &xattrs{}
		if errno := s.newKey(&x.content); errno != 0 {
			return errno
		}
		n.xattrs = x
	}
	fresh, errno := s.sealXattr(n, r.name, r.rest)
	if errno != 0 {
		s.trimXattrs(n)
		return errno
	}
	s.usedPages += pages
	if ok {
		s.freeXattr(&n.xattrs.list[pos])
		n.xattrs.list[pos] = fresh
	} else {
		n.xattrs.list = slices.Insert(n.xattrs.list, pos, fresh)
		s.usedInodes++
	}
	n.ctime = now()
	s.tx.xattr(n.ino, &fresh)
	s.tx.put(n)
	return 0
}

// sealXattr seals a value straight from the request slot.
func (s *Server) sealXattr(n *inode, name, value []byte) (xattr, unix.Errno) {
	x := xattr{name: string(name), size: len(value), seq: n.xattrs.seq}
	n.xattrs.seq++
	x.blocks = make([]crypt.Sealed, 0, (len(value)+blockSize-1)/blockSize)
	for chunk := range slices.Chunk(value, blockSize) {
		i := len(x.blocks)
		x.blocks = append(x.blocks, crypt.Sealed{})
		if !s.mem.Arena.Seal(n.xattrs.key, n.xattrPlace(x.seq, i), chunk, &x.blocks[i]) {
			for _, b := range x.blocks {
				s.mem.Arena.Free(b.Cell)
			}
			return xattr{}, unix.ENOSPC
		}
	}
	return x, 0
}

func (s *Server) freeXattr(x *xattr) {
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
		if err := s.mem.Arena.Open(n.xattrs.key, n.xattrPlace(x.seq, i), &x.blocks[i], out[i*blockSize:]); err != nil {
			s.logf("inode %d: extended attribute: %v: refusing to return it", n.ino, err)
			r.reply = nil
			return unix.EIO
		}
	}
	return 0
}

// sized answers a request whose caller may ask for the size first: nil and no
// error means that the answer is given.
func (r *request) sized(size int) ([]byte, unix.Errno) {
	want := int(as[getxattrIn](r.req).Size)
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
	var names []byte
	if n.xattrs != nil {
		for _, x := range n.xattrs.list {
			if r.in.Uid != 0 && strings.HasPrefix(x.name, "trusted.") {
				continue
			}
			names = append(append(names, x.name...), 0)
		}
	}
	out, errno := r.sized(len(names))
	copy(out, names)
	return errno
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
	n.xattrs.list = slices.Delete(n.xattrs.list, pos, pos+1)
	n.ctime = now()
	s.tx.unxattr(n.ino, x.name)
	s.trimXattrs(n)
	s.tx.put(n)
	return 0
}

// trimXattrs gives the key up with the last attribute.
func (s *Server) trimXattrs(n *inode) {
	if n.xattrs == nil || len(n.xattrs.list) > 0 {
		return
	}
	s.tx.freeKey(n.xattrs.key)
	n.xattrs = nil
	s.tx.put(n)
}

// dropXattrs forgets all of n's.
func (s *Server) dropXattrs(n *inode) {
	if n.xattrs == nil {
		return
	}
	for i := range n.xattrs.list {
		s.freeXattr(&n.xattrs.list[i])
		s.usedPages -= int64(len(n.xattrs.list[i].blocks))
	}
	s.usedInodes -= len(n.xattrs.list)
	n.xattrs.list = nil
	s.trimXattrs(n)
}

// set and unset are what the log's edits do.

func (x *xattrs) set(a xattr) {
	pos, ok := x.find([]byte(a.name))
	if ok {
		x.list[pos] = a
	} else {
		x.list = slices.Insert(x.list, pos, a)
	}
}

func (x *xattrs) unset(name string) bool {
	pos, ok := x.find([]byte(name))
	if ok {
		x.list = slices.Delete(x.list, pos, pos+1)
	}
	return ok
}
