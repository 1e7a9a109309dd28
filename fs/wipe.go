package fs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// quietly runs f, which may touch keys, on a thread that may.
func (s *Server) quietly(f func()) {
	done := make(chan struct{})
	s.control <- func() { defer close(done); f() }
	<-done
}

// serveControl is the thread behind quietly.
func (s *Server) serveControl() {
	crypt.Quiet()
	defer crypt.EndThread()
	for f := range s.control {
		f()
		crypt.BeginWait()
	}
}

// Wipe destroys every key, empties the tree and starts a fresh session. What
// was open answers EIO from then on. When it returns the keys are gone, and
// notices are given of all that the kernel still has of the old tree.
func (s *Server) Wipe() error {
	var err error
	s.quietly(func() { err = s.wipe() })
	return err
}

func (s *Server) wipe() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() {
		return errStopped
	}
	s.oweNotices()
	s.mem.Fresh()
	old := s.inodes
	s.readOnly = ""
	s.begin()
	crypt.Point("wipe: tree begun")
	s.wipes++
	for name := range old[rootIno].dir.names {
		s.notify(Notice{Parent: rootIno, Name: []byte(name)})
	}
	for ino, n := range old {
		if n.lookups > 0 {
			s.notify(Notice{Ino: ino})
		}
	}
	return s.furnish(".")
}

var errStopped = errors.New("the filesystem has been shut down")

// Stop destroys the keys for good: whatever is asked from now on gets EIO.
func (s *Server) Stop() {
	s.quietly(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone.Store(true)
		s.mem.Destroy()
		clear(s.inodes)
		s.versions = newVersions(&s.drafting)
	})
}

// Abandon is Stop for a process that is about to end. When it returns no thread
// touches the slots any more but one that waits for a request, or else limit is
// over: then one hangs.
func (s *Server) Abandon(limit time.Duration) {
	s.over.Store(true)
	stopped, end := make(chan struct{}), time.Now().Add(limit)
	go func() {
		s.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(limit):
		return
	}
	for i := range s.busy {
		for s.busy[i].Load() && time.Now().Before(end) {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// WipePath erases a file or a tree, named relative to the root, and says how
// many files that were. A file with other names is empty under those. It
// follows no symlink. The keys of all files go first and together; then the names,
// while requests are served. What is made in the tree meanwhile stays.
func (s *Server) WipePath(rel string) (files int, err error) {
	s.quietly(func() { files, err = s.wipePath(rel) })
	return files, err
}

func (s *Server) wipePath(rel string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() {
		return 0, errStopped
	}
	if s.readOnly != "" {
		return 0, fmt.Errorf("the filesystem is read-only, %s: wipe everything instead", s.readOnly)
	}
	p, e, err := s.walk(rel)
	if err != nil {
		return 0, err
	}
	files, over := s.erase(p, e)
	if over {
		return files, nil
	}
	return files, s.furnish(rel)
}

// walk finds the entry at rel. Errors name only what the caller named.
func (s *Server) walk(rel string) (*inode, *dirent, error) {
	p := s.inodes[rootIno]
	names := strings.FieldsFunc(rel, func(r rune) bool { return r == '/' })
	for i, name := range names {
		at := strings.Join(names[:i+1], "/")
		if name == "." || name == ".." {
			//lint:ignore ST1005 it ends with a name
			return nil, nil, fmt.Errorf("%s: name the path without . and ..", rel)
		}
		e := p.dir.get([]byte(name))
		if e == nil {
			// A predecessor may have ended between erasing it and giving notice.
			s.notify(Notice{Parent: p.ino, Name: []byte(name)})
			s.notify(Notice{Ino: p.ino})
			return nil, nil, fmt.Errorf("%s: %w", at, unix.ENOENT)
		}
		n := s.inodes[e.ino]
		switch {
		case i == len(names)-1:
			return p, e, nil
		case n.isSymlink():
			return nil, nil, fmt.Errorf("%s: %w: it is a symlink, and wipe follows none: name what it leads to", at, unix.ELOOP)
		case !n.isDir():
			return nil, nil, fmt.Errorf("%s: %w", at, unix.ENOTDIR)
		}
		p = n
	}
	return nil, nil, errors.New("no path given")
}
