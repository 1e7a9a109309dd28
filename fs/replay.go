package fs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// errRecord means a record that authenticated and yet makes no sense: it was
// written by us, so this is a bug, and the index built so far cannot be trusted.
var errRecord = errors.New("a record of the log makes no sense")

// load rebuilds the index from the log, and claims the keys and cells that it
// refers to; all others are erased.
func (s *Server) load() error {
	// Almost all of it stays: there is nothing to collect, and clients wait.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	crypt.Point("replay: begun")
	found, err := s.mem.Log.Replay(s.clearIndex, s.apply)
	s.replayed = nil
	if err != nil {
		return err
	}
	s.tell(found)
	if len(s.inodes) == 0 { // the first time, or after a wipe
		s.mem.Keys.Sweep()
		s.begin()
	} else if err := s.claim(); err != nil {
		return err
	}
	s.tidy(time.Now())
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
		s.usedTargets += n.longTarget()
		if n.isSymlink() {
			if err := s.claimKey(n, n.target.key); err != nil {
				return err
			}
		}
		if err := s.claimContent(n); err != nil {
			return err
		}
		if n.xattrs != nil {
			s.usedInodes += len(n.xattrs.list)
			for _, x := range n.xattrs.list {
				s.step()
				if err := s.claimKey(n, x.key); err != nil {
					return err
				}
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
	for _, v := range s.versions.all {
		s.step()
		if err := s.claimContent(v.inode); err != nil {
			return err
		}
		if v.of = s.inodes[v.of.ino]; v.of == nil || !v.of.isRegular() {
			return fmt.Errorf("%w: version %d is of no file", errRecord, v.ino)
		}
		s.versions.add(v)
	}
	s.mem.Keys.Sweep()
	crypt.Point("replay: keys swept")
	s.step()
	s.mem.Arena.Sweep()
	s.step()
	crypt.Point("replay: cells swept")
	return nil
}

func (s *Server) claimContent(n *inode) error {
	s.usedPages += n.pages()
	for i := range n.data.extents {
		e := &n.data.extents[i]
		if err := s.claimKey(n, e.key); err != nil {
			return err
		}
		if e.at > 0 {
			s.farKeys++
		}
	}
	for i := range n.data.blocks {
		b := &n.data.blocks[i]
		if err := s.claimCell(n, &b.Sealed); err != nil {
			return err
		}
		if i%extentBlocks == 0 {
			s.step()
		}
		if _, ok := n.data.findExtent(extentOf(b.idx)); !ok && b.Cell != 0 {
			return fmt.Errorf("%w: block %d of inode %d has no key", errRecord, b.idx, n.ino)
		}
	}
	return nil
}

func (s *Server) claimKey(n *inode, k crypt.Key) error {
	if !s.mem.Keys.Claim(k) {
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
		r.u64()
		slot := r.u64()
		d := done{r.u64(), unix.Errno(r.u64()), r.u64()}
		if slot >= uint64(len(s.done)) {
			return false
		}
		s.done[slot] = d
		return true
	case editNext:
		r.u64()
		s.nextIno, s.nextVersion = max(s.nextIno, r.u64()), max(s.nextVersion, r.u64())
		return true
	}
	n := s.holder(r.u64())
	return n != nil && s.applyContents(kind, n, r)
}

// holder finds what holds contents: an inode or, beside one, a version.
func (s *Server) holder(ino uint64) *inode {
	if v := s.versions.all[ino]; v != nil {
		return v.inode
	}
	return s.inodes[ino]
}

func (s *Server) applyContents(kind byte, n *inode, r *reader) bool {
	switch kind {
	case editTarget:
		n.target = target{key: crypt.Key(r.u64()), version: r.u64(), sealed: bytes.Clone(r.bytes(int(r.u16())))}
		s.nextVersion = max(s.nextVersion, n.target.version+1)
	case editDrop:
		delete(s.versions.all, n.ino)
		delete(s.inodes, n.ino)
	case editVersion:
		return s.applyVersion(n, r)
	case editKey:
		e := r.extent()
		if e.key == 0 {
			n.data.dropExtent(e.at)
		} else {
			n.data.setExtent(e)
		}
		s.nextVersion = max(s.nextVersion, e.version+1)
	case editBlocks:
		s.replayed = s.replayed[:0]
		for range r.u64() {
			b := block{idx: r.u64()}
			if b.Sealed = r.sealed(); r.short || b.Len > blockSize {
				return false
			}
			s.replayed = append(s.replayed, b)
		}
		n.data.set(s.replayed)
	case editPunch:
		n.data.cut(r.u64(), r.u64())
	case editPrealloc:
		first, last := r.u64(), r.u64()
		if last-first >= uint64(s.quotaPages)+uint64(s.mem.Arena.Cells()) {
			return false
		}
		n.data.fill(first, last)
	case editXattr:
		x := xattr{key: crypt.Key(r.u64()), version: r.u64(), size: int(r.u64())}
		x.name = r.string()
		if x.size > maxXattr {
			return false
		}
		for range (x.size + blockSize - 1) / blockSize {
			x.blocks = append(x.blocks, r.sealed())
		}
		n.setXattr(x)
		s.nextVersion = max(s.nextVersion, x.version+1)
	case editUnxattr:
		return n.unsetXattr(r.string())
	case editUnxattrs:
		n.xattrs = nil
	default:
		return false
	}
	return true
}

// applyVersion knows of its file only the number: in a checkpoint that may come
// later.
func (s *Server) applyVersion(n *inode, r *reader) bool {
	of := r.u64()
	d := draft{fh: r.u64(), thread: uint32(r.u64()), owner: r.u64(), flags: r.u64(), last: time.Now()}
	if d.fh == 0 || d.has(draftWritten) {
		d.first = d.last
	}
	delete(s.inodes, n.ino)
	s.versions.all[n.ino] = &version{inode: n, of: &inode{ino: of}, draft: d}
	return of != n.ino
}

func (s *Server) applyInode(record *reader) {
	// One check for all its fields.
	r := &reader{b: record.bytes(inodeEdit - 1)}
	if record.short {
		return
	}
	ino := r.u64()
	n := s.holder(ino)
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
	n.data.id = r.u64()
	r.u64() // expiry
	r.u64() // last reader
	n.mapped = s.wasMapped(ino)
	s.nextIno = max(s.nextIno, ino+1)
}
