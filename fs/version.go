package fs

import (
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// version is contents of a file beside those that it has: a draft, or what the
// file held before, for the handles that have begun to read that.
//
// An inode of its own holds them, so that the log has them, and a successor
// claims them, like any other's. But its number is no node: no request can name
// it, and it counts as no file.
type version struct {
	*inode
	of *inode // the file; while the log is replayed, only its number is known
	draft
}

// draft is what is known of a version that is being written.
type draft struct {
	fh     uint64 // the handle that writes it; 0: this is a former version
	thread uint32 // that began it
	owner  uint64 // the table of descriptors that it was last written through
	flags  uint64

	// Not in the log: a successor counts from its own beginning.
	first, last time.Time // written; of a former version, when another took its place
}

// Flags of a draft.
const (
	draftWritten = 1 << iota // something has been, by owner
	draftKilled              // owner was killed
	draftShort               // what was to be written last did not fit
	draftTimed               // its time of change was set, not stamped
)

func (d *draft) has(flag uint64) bool { return d.flags&flag != 0 }

func (d *draft) set(flag uint64, on bool) {
	d.flags &^= flag
	if on {
		d.flags |= flag
	}
}

// versions finds them.
type versions struct {
	all    map[uint64]*version // by the number of the inode that holds them
	drafts map[uint64]*version // by the handle
	former map[uint64]*version // by the number of their contents
	spare  *version            // for the next one: a save then allocates nothing

	drafting *atomic.Int32 // len(drafts), for who does not hold the lock
}

func newVersions(drafting *atomic.Int32) versions {
	drafting.Store(0)
	return versions{make(map[uint64]*version), make(map[uint64]*version), make(map[uint64]*version), nil, drafting}
}

// add makes v known to who looks for it, and to its file.
func (vs *versions) add(v *version) {
	vs.all[v.ino] = v
	if v.fh != 0 {
		vs.drafts[v.fh] = v
		vs.drafting.Add(1)
	} else {
		vs.former[v.data.id] = v
	}
	v.of.versions++
}

// remove forgets v, which holds nothing any more.
func (vs *versions) remove(v *version) {
	delete(vs.all, v.ino)
	if v.fh != 0 {
		delete(vs.drafts, v.fh)
		vs.drafting.Add(-1)
	} else {
		delete(vs.former, v.data.id)
	}
	v.of.versions--
	v.of = nil
	vs.spare = v
}

// list returns the versions of n, drafts in the order in which they were begun.
func (vs *versions) list(n *inode) (list []*version) {
	if n.versions == 0 {
		return nil
	}
	for _, v := range vs.all {
		if v.of == n {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *version) int { return int(a.ino) - int(b.ino) })
	return list
}

// newVersion makes an empty one of n.
func (s *Server) newVersion(n *inode, d draft) *version {
	v := s.versions.spare
	if s.versions.spare = nil; v == nil {
		v = &version{inode: &inode{}}
	}
	s.reserveIno()
	*v.inode = inode{ino: s.nextIno, mode: unix.S_IFREG, data: v.data.empty(s.nextIno)}
	s.nextIno++
	v.of, v.draft = n, d
	return v
}

// move gives what one inode holds to another, which holds nothing.
func (s *Server) move(from, to *inode) {
	from.data, to.data = to.data.empty(from.ino), from.data
	s.tx.content(to)
	s.tx.put(to)
}

// replace makes what v holds the contents of its file. What the file held stays
// as long as somebody reads it.
func (s *Server) replace(v *version) {
	n := v.of
	if n.size > maxIO { // nobody reads that in one go
		s.handles.opened(n.data.id, v.data.id)
	}
	if s.reading(n, n.data.id, true) {
		s.boundFormer(n)
		former := s.newVersion(n, draft{first: time.Now()})
		former.size = n.size
		s.tx.punch(n.ino, 0, noEnd)
		s.tx.write(former.inode)
		s.tx.version(former)
		s.move(n, former.inode)
		s.versions.add(former)
		s.armTidy()
	} else {
		s.dropContent(n)
	}
	s.move(v.inode, n)
	n.size, n.grace = v.size, v.grace
	s.tx.drop(v.inode)
	s.versions.remove(v)
}

// discardVersion erases v.
func (s *Server) discardVersion(v *version) {
	s.dropContent(v.inode)
	s.tx.drop(v.inode)
	s.versions.remove(v)
}

// discardVersions erases all that n has.
func (s *Server) discardVersions(n *inode) {
	for _, v := range s.versions.list(n) {
		s.discardVersion(v)
	}
}

// A handle that has begun to read at offset 0 goes on with the same contents
// until it has come to their end: a save between two READs would join the
// beginning of one version and the end of another.
//
// Node and .NET ask for a file's size first, and read as much in one go: after a save
// in between they would have the beginning of a longer version. Who reads exactly as
// much as there was since it was opened, and that was moments ago, gets that.

// source is what a READ finds: the draft that its handle writes, the contents that
// it has begun to read, or what the file holds now; for a process that has written
// to a draft through another handle, that.
func (s *Server) source(r *request, n *inode) *inode {
	in := as[fuse.ReadIn](r.req)
	if v := s.draftOf(n, in.Fh); v != nil {
		return v.inode
	}
	if v := s.versions.all[r.writer]; v != nil && v.of == n && v.fh != 0 && !r.again {
		v.owner = in.LockOwner
		s.tx.version(v)
	}
	from := n
	if v := s.draftFrom(n, in.LockOwner); v != nil {
		from = v.inode
	}
	i := s.handles.find(in.Fh)
	begun := i >= 0 && s.handles.begun(i)
	again := begun && s.handles.read[i]>>1 == r.in.Unique
	switch {
	case again, begun && in.Offset > 0 && s.handles.read[i]&readEnd == 0:
		if v := s.versions.holding(n, s.handles.id[i]); v != nil {
			return v.inode
		}
		return n
	case !s.cfg.WholeSaves, r.again:
	case in.Offset == 0:
		if i >= 0 && !begun && from == n {
			from = s.asked(n, s.handles.id[i], int64(in.Size))
		}
		s.letGo(s.handles.put(in.Fh, from.data.id, r.in.Unique<<1))
	default:
		s.letGo(s.handles.drop(in.Fh))
	}
	return from
}

// asked is what a first READ of that size finds, by a handle that was opened when
// there were contents with that number.
func (s *Server) asked(n *inode, id uint64, size int64) *inode {
	opened := s.versions.former[id]
	if opened == nil || opened.of != n || size >= n.size {
		return n
	}
	from, last := n, opened.first
	for _, v := range s.versions.former {
		if v.of == n && v.size == size && !v.first.Before(last) {
			from, last = v.inode, v.first
		}
	}
	return from
}

// formerMost bounds how many versions are kept of a file because somebody may have
// asked for the size of one.
const formerMost = 8

// boundFormer erases the oldest of them if there are as many. Who was there for that
// counts as opened when the next one was there.
func (s *Server) boundFormer(n *inode) {
	if n.versions < formerMost {
		return
	}
	var list []*version
	for id, v := range s.versions.former {
		if v.of == n && !s.reading(n, id, false) {
			list = append(list, v)
		}
	}
	if len(list) < formerMost/2 {
		return
	}
	slices.SortFunc(list, func(a, b *version) int { return a.first.Compare(b.first) })
	s.handles.opened(list[0].data.id, list[1].data.id)
	s.discardVersion(list[0])
}

// earlier says whether others took the place of the first contents of n before they
// did of the second.
func (vs *versions) earlier(n *inode, first, second uint64) bool {
	v, w := vs.former[first], vs.former[second]
	return v != nil && v.of == n && (w == nil || v.first.Before(w.first))
}

// holding finds a version of n by the number of its contents.
func (vs *versions) holding(n *inode, id uint64) *version {
	if n.versions == 0 || n.data.id == id {
		return nil
	}
	for _, v := range vs.all {
		if v.of == n && v.data.id == id {
			return v
		}
	}
	return nil
}

// atEnd notes that a READ through fh has found the end. What it read stays until
// the answer is out: a successor may have to answer again.
func (s *Server) atEnd(r *request, fh uint64) {
	if i := s.handles.find(fh); i >= 0 && s.handles.begun(i) && !r.again {
		atomic.StoreUint64(&s.handles.read[i], r.in.Unique<<1|readEnd)
	}
}

// reading says whether anybody goes on reading these contents of n or, if that is
// asked, whether anybody has opened it, by the time that others took their place, who
// may have asked for their size.
func (s *Server) reading(n *inode, id uint64, mayBegin bool) bool {
	for i, other := range s.handles.id {
		if other == 0 || s.handles.fh[i] == 0 {
			continue
		}
		switch read := s.handles.read[i]; {
		case read == 0:
			if mayBegin && (other == id || s.versions.earlier(n, other, id)) {
				return true
			}
		case other == id && (read&readEnd == 0 || s.inSlot(read>>1)):
			return true
		}
	}
	return false
}

// inSlot says whether a request is being served.
func (s *Server) inSlot(unique uint64) bool {
	for slot := range slotCount {
		off := slotsOff + slot*slotSize
		if atomic.LoadUint32(word32(s.mem.Slots(), off)) != 0 && *as[uint64](s.mem.Slots()[off+8:]) == unique {
			return true
		}
	}
	return false
}

// letGo notes that a handle reads these contents no more, nor any that took their
// place.
func (s *Server) letGo(id uint64) {
	v := s.versions.former[id]
	if v == nil {
		return
	}
	n := v.of
	for id, v := range s.versions.former {
		if v.of == n && !s.reading(n, id, true) {
			s.discardVersion(v)
		}
	}
}

// discardFormer erases former versions: all of them, or those that nobody reads at
// that time. Those who still do go on with what the file holds now, as on tmpfs. It
// says whether there were any.
func (s *Server) discardFormer(all bool, at time.Time) (any bool) {
	for id, v := range s.versions.former {
		if all || !s.reading(v.of, id, at.Sub(v.first) < draftIdle) {
			s.discardVersion(v)
			any = true
		}
	}
	return any
}
