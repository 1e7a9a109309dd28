package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// errRecord means a record that authenticated and yet makes no sense: it was
// written by us, so this is a bug, and the index built so far cannot be trusted.
var errRecord = errors.New("a record of the log makes no sense")

// load rebuilds the index from the log, and claims the keys and cells that it
// refers to; all others are erased.
func (s *Server) load() error {
	s.clearIndex()
	// Almost all of it stays: there is nothing to collect, and clients wait.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	crypt.Point("replay: begun")
	cut, err := s.mem.Log.Replay(s.apply)
	switch {
	case errors.Is(err, crypt.ErrDamaged):
		s.degrade("a record in the log was altered; what followed it is lost")
	case err != nil:
		return err
	case cut:
		s.logf("the last record of the log was altered; it is lost")
	}
	if len(s.inodes) == 0 { // the first time, or after a wipe
		s.mem.Keys.Sweep()
		s.begin()
	} else if err := s.claim(); err != nil {
		return err
	}
	s.renotify()
	// Also where a session goes on: whoever was before us may have ended between
	// a wipe and this.
	if err := s.furnish("."); err != nil {
		s.logf("%v", err)
	}
	return nil
}

func (s *Server) claim() error {
	s.mem.Keys.Reclaim()
	s.mem.Arena.Reclaim()
	for _, n := range s.inodes {
		s.step()
		s.usedInodes++
		if n.nlink > 1 && !n.isDir() {
			s.usedInodes += int(n.nlink - 1)
		}
		if n.isRegular() {
			s.files++
		}
		s.usedPages += n.pages()
		s.usedTargets += n.longTarget()
		if err := s.claimKey(n, n.data.key); err != nil {
			return err
		}
		for i := range n.data.blocks {
			if err := s.claimCell(n, &n.data.blocks[i].Sealed); err != nil {
				return err
			}
		}
		if n.xattrs != nil {
			s.usedInodes += len(n.xattrs.list)
			if err := s.claimKey(n, n.xattrs.key); err != nil {
				return err
			}
			for _, x := range n.xattrs.list {
				s.usedPages += int64(len(x.blocks))
				for i := range x.blocks {
					if err := s.claimCell(n, &x.blocks[i]); err != nil {
						return err
					}
				}
			}
		}
		if n.isDir() {
			for _, e := range n.dir.names {
				if s.inodes[e.ino] == nil {
					return fmt.Errorf("%w: an entry of inode %d names inode %d", errRecord, n.ino, e.ino)
				}
			}
		}
	}
	if s.inodes[rootIno] == nil {
		return fmt.Errorf("%w: no root", errRecord)
	}
	s.mem.Keys.Sweep()
	crypt.Point("replay: keys swept")
	s.step()
	s.mem.Arena.Sweep()
	s.step()
	crypt.Point("replay: cells swept")
	return nil
}

func (s *Server) claimKey(n *inode, k crypt.Key) error {
	if k != 0 && !s.mem.Keys.Claim(k) {
		return fmt.Errorf("%w: key %d of inode %d", errRecord, k, n.ino)
	}
	return nil
}

func (s *Server) claimCell(n *inode, b *crypt.Sealed) error {
	if b.Cell != 0 && !s.mem.Arena.Claim(b.Cell) {
		return fmt.Errorf("%w: cell %d of inode %d", errRecord, b.Cell, n.ino)
	}
	return nil
}

// reader takes fields off a record; short is set when there are too few.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) string() string { return string(r.bytes(int(r.u16()))) }

func (r *reader) stamp() stamp { return stamp{int64(r.u64()), r.u32()} }

func (r *reader) key(c *content) {
	v := r.u64()
	c.key, c.seals = crypt.Key(v>>32), uint32(v)
	c.version = r.u64()
}

func (r *reader) sealed() (s crypt.Sealed) {
	s.Cell, s.Len = r.u32(), r.u16()
	copy(s.Nonce[:], r.bytes(crypt.NonceSize))
	copy(s.Tag[:], r.bytes(crypt.TagSize))
	return s
}

// apply does to the index what one record says.
func (s *Server) apply(record []byte) error {
	s.step()
	r := reader{b: record}
	for len(r.b) > 0 {
		kind := r.bytes(1)[0]
		if ok := s.applyEdit(kind, &r); !ok || r.short {
			return fmt.Errorf("%w: edit of kind %d", errRecord, kind)
		}
	}
	return nil
}

func (s *Server) applyEdit(kind byte, r *reader) bool {
	switch kind {
	case editInode:
		s.applyInode(r)
		return true
	case editName:
		p, cookie, ino := s.inodes[r.u64()], r.u64(), r.u64()
		name := r.string()
		if p == nil || p.dir == nil {
			return false
		}
		p.dir.insert(&dirent{name: name, ino: ino, cookie: cookie})
		return true
	case editUnname:
		p, cookie := s.inodes[r.u64()], r.u64()
		if p == nil || p.dir == nil {
			return false
		}
		i := p.dir.at(cookie)
		if i == len(p.dir.order) || p.dir.order[i].cookie != cookie {
			return false
		}
		p.dir.remove(p.dir.order[i])
		return true
	case editDone:
		slot := r.u64()
		d := done{r.u64(), unix.Errno(r.u64()), r.u64()}
		if slot >= uint64(len(s.done)) {
			return false
		}
		s.done[slot] = d
		return true
	case editNext:
		s.nextIno, s.nextVersion = max(s.nextIno, r.u64()), max(s.nextVersion, r.u64())
		return true
	}
	n := s.inodes[r.u64()]
	return n != nil && s.applyContents(kind, n, r)
}

func (s *Server) applyContents(kind byte, n *inode, r *reader) bool {
	switch kind {
	case editTarget:
		n.target = r.string()
	case editDrop:
		delete(s.inodes, n.ino)
	case editBlocks:
		for range r.u64() {
			b := block{idx: r.u64()}
			if b.Sealed = r.sealed(); r.short || b.Len > blockSize {
				return false
			}
			n.data.set(b)
		}
	case editPunch:
		n.data.cut(r.u64(), r.u64())
	case editPrealloc:
		first, last := r.u64(), r.u64()
		if last-first >= uint64(s.quotaPages)+uint64(s.mem.Arena.Cells()) {
			return false
		}
		n.data.fill(first, last)
	case editXattr:
		x := xattr{seq: uint32(r.u64()), size: int(r.u64())}
		x.name = r.string()
		if x.size > maxXattr {
			return false
		}
		for range (x.size + blockSize - 1) / blockSize {
			x.blocks = append(x.blocks, r.sealed())
		}
		if n.xattrs == nil {
			n.xattrs = &xattrs{}
		}
		n.xattrs.set(x)
	case editUnxattr:
		return n.xattrs.unset(r.string())
	default:
		return false
	}
	return true
}

func (s *Server) applyInode(record *reader) {
	// One check for all its fields.
	r := &reader{b: record.bytes(inodeEdit - 1)}
	if record.short {
		return
	}
	ino := r.u64()
	n := s.inodes[ino]
	if n == nil {
		n = &inode{ino: ino}
		s.inodes[ino] = n
	}
	n.mode, n.uid, n.gid, n.rdev, n.nlink = r.u32(), r.u32(), r.u32(), r.u32(), r.u32()
	n.size = int64(r.u64())
	n.atime, n.mtime, n.ctime, n.btime = r.stamp(), r.stamp(), r.stamp(), r.stamp()
	n.lookups, n.grace = r.u64(), int64(r.u64())
	parent, next := r.u64(), r.u64()
	if n.isDir() {
		if n.dir == nil {
			n.dir = &dir{}
		}
		n.dir.parent, n.dir.next = parent, next
	}
	r.key(&n.data)
	var x content
	r.key(&x)
	seq := uint32(r.u64())
	if x.key == 0 {
		n.xattrs = nil
	} else {
		if n.xattrs == nil {
			n.xattrs = &xattrs{}
		}
		n.xattrs.content, n.xattrs.seq = x, seq
	}
	r.u64() // expiry
	r.u64() // last reader
	n.mapped = s.wasMapped(ino)
	s.nextIno = max(s.nextIno, ino+1)
	s.nextVersion = max(s.nextVersion, n.data.version+1, x.version+1)
}
