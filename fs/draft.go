package fs

import (
	"time"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

// A save is whole, or it did not happen. Most programs save by opening their
// file with O_TRUNC, writing and closing it. Whoever reads in between finds
// nothing, or a half; so does everybody once a program was killed in between.
//
// So a handle that cuts a file to nothing begins a draft. What it writes goes
// there, and what its process reads comes from there; to everybody else the file
// is as it was. The draft becomes what the file holds
//
//	at a close, see flush, and at the last one in any case
//	at fsync(2)
//	some time after it was written last, or first: see draftIdle
//	when it grows larger than a file whose rewriting is never refused
//	when it is read or written through a mapping, or spliced
//	before anybody else changes what the file holds without a draft
//
// and it is erased at the last close of a handle whose writer was killed, or
// whose last write did not fit. From the first of these on the handle is like
// any other. Of two drafts the last one to become the file's contents stays.
//
// No draft is begun by cutting through a handle that appends, or through which
// something was done before: SQLite ends a transaction by cutting its journal,
// and everybody must see that. Nor by truncate(2), and there is none of a file
// that is new, or empty, or larger than draftMost.

// draftMost is the size up to which a file's rewriting is never refused.
const draftMost = rewriteMax

// A draft that was not written for draftIdle, or that was begun to be written
// draftLongest ago, is a log rather than a save: who watches it wants to see it.
const (
	draftIdle    = 2 * time.Second
	draftLongest = 10 * time.Second
)

// draftOf returns the draft of n that a handle writes, nil if there is none. A
// number that was never given out, or for another file, has none here.
func (s *Server) draftOf(n *inode, fh uint64) *version {
	if v := s.versions.drafts[fh]; v != nil && v.of == n {
		return v
	}
	return nil
}

// draftBy returns the last draft of n that a thread has begun. Threads of other
// pid namespaces are all 0.
func (s *Server) draftBy(n *inode, thread uint32) (last *version) {
	if n.versions == 0 || thread == 0 {
		return nil
	}
	for _, v := range s.versions.drafts {
		if v.of == n && v.thread == thread && (last == nil || last.ino < v.ino) {
			last = v
		}
	}
	return last
}

// draftFrom returns the last draft of n that was written through a table of
// descriptors, which is as much as by a process.
func (s *Server) draftFrom(n *inode, owner uint64) (last *version) {
	if n.versions == 0 {
		return nil
	}
	for _, v := range s.versions.drafts {
		if v.of == n && v.has(draftWritten) && v.owner == owner && (last == nil || last.ino < v.ino) {
			last = v
		}
	}
	return last
}

// lookAtReader finds out whether who reads has written a draft of which the owner
// is not known: to copy into one says nothing of it.
func (s *Server) lookAtReader(r *request) {
	if r.writer = 0; s.drafting.Load() == 0 {
		return
	}
	in := as[fuse.ReadIn](r.req)
	var thread uint32
	s.mu.Lock()
	if n := s.inodes[r.in.NodeId]; n != nil && in.ReadFlags&readLockOwner != 0 && s.draftOf(n, in.Fh) == nil {
		if v := s.draftFrom(n, 0); v != nil {
			thread, r.writer = v.thread, v.ino
		}
	}
	s.mu.Unlock()
	if thread == 0 {
		r.writer = 0
	} else if answer, ok := s.ask(r.slot, AnswerSame, r.in.Pid, thread); !ok || answer&AnswerSame == 0 {
		r.writer = 0
	}
}

func (s *Server) mayDraft(n *inode) bool {
	return s.cfg.WholeSaves && n.isRegular() && n.size > 0 && n.size <= draftMost &&
		len(n.data.blocks) <= draftMost/blockSize // or space was set aside behind the end
}

// beginDraft has fh write a draft of n from here on.
func (s *Server) beginDraft(r *request, n *inode, fh, owner uint64, t stamp) {
	v := s.newVersion(n, draft{fh: fh, thread: r.in.Pid, owner: owner})
	v.grace = n.rewriteGrace()
	v.mtime, v.ctime = t, t
	s.handles.drop(fh)
	s.tx.write(v.inode)
	s.tx.version(v)
	s.versions.add(v)
	s.armTidy()
}

// target is what is written through fh, up to end: its draft, or the file itself,
// which then has no others.
func (s *Server) target(n *inode, fh uint64, end int64) (*inode, *version) {
	if v := s.draftOf(n, fh); v != nil && end <= draftMost {
		return v.inode, v
	}
	s.settle(n)
	s.letGo(s.handles.drop(fh)) // no longer one that has done nothing
	return n, nil
}

// settle makes the last draft of n its contents. It takes the place of the others.
func (s *Server) settle(n *inode) {
	var last *version
	for _, v := range s.versions.list(n) {
		if v.fh == 0 {
			continue
		}
		if last != nil {
			s.discardVersion(last)
			s.count(draftsCommitted)
		}
		last = v
	}
	if last != nil {
		s.commit(last)
	}
}

// commit makes a draft what its file holds. The time of change is that of the
// commit: a program that loads when the file is newer than what it knows may
// have loaded since the last write.
func (s *Server) commit(v *version) {
	n, t := v.of, now()
	n.mtime, n.ctime = t, t
	if v.has(draftTimed) {
		n.mtime = v.mtime
	}
	s.replace(v)
	if n.mapped {
		s.notify(Notice{Ino: n.ino})
	}
	s.count(draftsCommitted)
}

// wrote notes that a draft was changed by a request with this owner.
func (s *Server) wrote(v *version, owner uint64, short bool) {
	v.last = time.Now()
	if v.first.IsZero() {
		v.first = v.last
	}
	was := v.draft
	v.owner = owner
	v.set(draftWritten, true)
	v.set(draftKilled|draftTimed, false)
	v.set(draftShort, short)
	if v.owner != was.owner || v.flags != was.flags {
		s.tx.version(v)
	}
}

// closer is what is known of who closes a descriptor of a draft.
type closer struct {
	own    bool // who has written it last, or else begun it
	killed bool
}

// tidy commits the drafts that nobody writes any more, and erases former
// versions that nobody reads. at is the time to judge by.
func (s *Server) tidy(at time.Time) {
	if s.gone.Load() || s.readOnly != "" {
		return
	}
	for _, v := range s.versions.drafts {
		if v.has(draftWritten) && !v.has(draftKilled|draftShort) &&
			(at.Sub(v.last) >= draftIdle || at.Sub(v.first) >= draftLongest) {
			s.room(perCommit)
			s.commit(v)
			s.tx.commit()
			crypt.Point("draft committed when idle")
		}
	}
	s.room(0)
	if s.discardFormer(false, at) {
		s.tx.commit()
	}
	if len(s.versions.all) > 0 {
		s.armTidy()
	}
}

// armTidy has tidy run in a while, if it does not do so anyway.
func (s *Server) armTidy() {
	if !s.tidying {
		s.tidying = true
		s.tidyTimer.Reset(draftIdle)
	}
}

func (s *Server) onTidyTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tidying = false; !s.closed {
		s.tidyDue = true
		s.wakeUpkeep()
	}
}

// setMtime is utimensat(2) by the thread that has begun a draft.
func (s *Server) setMtime(v *version, t stamp) {
	v.mtime = t
	s.tx.put(v.inode)
	v.set(draftTimed, true)
	s.tx.version(v)
}
