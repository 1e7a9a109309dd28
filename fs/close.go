package fs

import (
	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// lookAtCloser finds out who closes. It holds no lock: it may have to ask another
// process.
func (s *Server) lookAtCloser(r *request) {
	in := as[fuse.FlushIn](r.req)
	r.closer = closer{own: true}
	s.mu.Lock()
	var d draft
	if n := s.inodes[r.in.NodeId]; n != nil {
		if v := s.draftOf(n, in.Fh); v != nil {
			d = v.draft
		}
	}
	s.mu.Unlock()
	if d.fh == 0 {
		return
	}
	ownKnown := d.owner != 0 || d.thread == r.in.Pid
	if d.owner != 0 {
		r.closer.own = d.owner == in.LockOwner
	}
	var want Answer
	if !s.alive(r.slot, r.in.Pid) {
		want |= AnswerKilled
	}
	if !ownKnown {
		want |= AnswerSame
	}
	if want == 0 {
		return
	}
	answer, ok := s.ask(r.slot, want, r.in.Pid, d.thread)
	if !ok {
		// Whoever closes has been told that it is saved, or is about to be. Few
		// are killed, and hardly ever while nobody can say so.
		return
	}
	r.closer.killed = answer&AnswerKilled != 0
	if !ownKnown {
		r.closer.own = answer&AnswerSame != 0
	}
}

// flush is a close of one of perhaps several descriptors of a handle:
//
//	closed by             killed       not killed
//	the last writer (1)   erase (2)    commit
//	somebody else         -            commit if something was written (3)
//
// (1) or, before anything was written, the process that has begun it.
// (2) at the last close: somebody who has a copy may go on writing.
// (3) A child closes the copies that it has inherited. One that was forked after
// a write may have been so to read it; one that was forked between the opening
// of a file and the first write to it has to do with another thread's business.
func (s *Server) flush(r *request) unix.Errno {
	n, in := s.inodes[r.in.NodeId], as[fuse.FlushIn](r.req)
	if n == nil {
		return 0 // a wipe has destroyed it
	}
	v := s.draftOf(n, in.Fh)
	switch {
	case v == nil:
	case r.closer.killed && r.closer.own:
		v.set(draftKilled, true)
		s.tx.version(v)
	case r.closer.killed:
	case v.has(draftShort):
		return unix.ENOSPC
	case r.closer.own, v.has(draftWritten):
		s.commit(v)
	}
	return 0
}

// fsync answers ENOSYS, after which the kernel does not ask again, where there
// are no drafts.
func (s *Server) fsync(r *request) unix.Errno {
	n, errno := s.handle(r.in.NodeId)
	if errno != 0 {
		return errno
	}
	v := s.draftOf(n, as[fuse.FsyncIn](r.req).Fh)
	switch {
	case v == nil && !s.cfg.WholeSaves:
		return unix.ENOSYS
	case v == nil:
	case v.has(draftShort):
		return unix.ENOSPC
	default:
		s.commit(v)
	}
	return 0
}

// release is the last close. Pages that a mapping left behind go.
func (s *Server) release(r *request) unix.Errno {
	fh := as[fuse.ReleaseIn](r.req).Fh
	s.letGo(s.handles.drop(fh))
	n := s.inodes[r.in.NodeId]
	if n == nil {
		return 0
	}
	if n.mapped {
		s.notify(Notice{Ino: n.ino})
	}
	v := s.draftOf(n, fh)
	switch {
	case v == nil:
	case v.has(draftKilled | draftShort):
		s.discardVersion(v)
		s.count(draftsDropped)
	default:
		s.commit(v)
	}
	return 0
}
