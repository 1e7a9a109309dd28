package fs

import "tokenfs/crypt"

// doomed is an entry that a wipe takes away.
type doomed struct{ dir, cookie, ino uint64 }

// namesAtOnce is how many names one step of erasing a tree takes away.
const namesAtOnce = 64

// erase takes an entry and all below it away. Contents and attributes go in one
// operation: a crash leaves all of it or nothing. The names follow step by step,
// and a crash leaves a smaller tree of empty files. It says whether everything
// was wiped meanwhile, or shut down.
func (s *Server) erase(p *inode, e *dirent) (files int, over bool) {
	all := s.below(nil, p, e)
	files = s.eraseContents(all)
	session := s.wipes
	for len(all) > 0 {
		part := all[:min(len(all), namesAtOnce)]
		s.eraseNames(part)
		if all = all[len(part):]; len(all) == 0 {
			return files, false
		}
		s.step()
		s.mu.Yield()
		if s.gone.Load() || s.readOnly != "" || s.wipes != session {
			return files, true
		}
	}
	return files, false
}

// below lists an entry and all that is below it, what a directory holds first.
func (s *Server) below(list []doomed, p *inode, e *dirent) []doomed {
	s.step()
	if n := s.inodes[e.ino]; n.isDir() {
		for _, child := range n.dir.order {
			if child != nil {
				list = s.below(list, n, child)
			}
		}
	}
	return append(list, doomed{p.ino, e.cookie, e.ino})
}

// eraseContents destroys the keys of all contents and attributes that are doomed,
// in one operation, and says how many files that were. The target of a symlink goes
// with its last name.
func (s *Server) eraseContents(all []doomed) (files int) {
	const edits = inodeEdit + 64
	s.roomFor((len(all) + len(s.versions.all)) * edits)
	t := now()
	for _, d := range all {
		s.step()
		s.tx.stage()
		n := s.inodes[d.ino]
		if n.isRegular() {
			files++
			s.discardVersions(n)
			s.resize(nil, n, 0, t)
			n.grace = 0
			s.notify(Notice{Ino: n.ino})
		}
		s.dropXattrs(n)
	}
	crypt.During(opUnlink)
	if !s.tx.empty() {
		s.tx.commit()
	}
	crypt.Point("wipe: contents erased")
	return files
}

// eraseNames takes names away in one operation. A directory that got something
// new stays, and so does an entry whose place another one has.
func (s *Server) eraseNames(part []doomed) {
	s.roomFor(len(part) * (3*inodeEdit + 64))
	t := now()
	told := uint64(0)
	for _, d := range part {
		p := s.inodes[d.dir]
		if p == nil || !p.isDir() {
			continue
		}
		i := p.dir.at(d.cookie)
		if i == len(p.dir.order) || p.dir.order[i] == nil {
			continue
		}
		e, n := p.dir.order[i], s.inodes[d.ino]
		if e.cookie != d.cookie || e.ino != d.ino || n.isDir() && len(n.dir.names) > 0 {
			continue
		}
		s.notify(Notice{Parent: p.ino, Name: []byte(e.name)})
		s.notify(Notice{Ino: n.ino})
		if told != p.ino {
			s.notify(Notice{Ino: p.ino})
			told = p.ino
		}
		s.take(p, e)
		p.changed(t)
		s.unlinked(n, t)
	}
	if !s.tx.empty() {
		s.tx.commit()
	}
	crypt.Point("wipe: file erased")
}
