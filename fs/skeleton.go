package fs

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A Folder is a directory that is there from the beginning of every session,
// and again after a wipe: an app that was redirected to it must find it, and
// not a link that leads nowhere.
type Folder struct {
	Path string `json:"path"` // relative to the root; its parents are made, too
	Mode uint32 `json:"mode"`

	// Links name what is kept outside: each is a symlink to the file of that
	// name in Outside.
	Outside string   `json:"outside,omitempty"`
	Links   []string `json:"links,omitempty"`
}

// CheckSkeleton refuses what could not be made, or not where it says.
func CheckSkeleton(folders []Folder) error {
	for _, f := range folders {
		if f.Path == "" || f.Path != path.Clean(f.Path) || path.IsAbs(f.Path) || strings.HasPrefix(f.Path+"/", "../") || f.Path == "." {
			//lint:ignore ST1005 it ends with a name
			return fmt.Errorf("folder %.80q: must be relative to the root, without . and ..", f.Path)
		}
		names := append(strings.Split(f.Path, "/"), f.Links...)
		for _, name := range names {
			if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") || !utf8.ValidString(name) {
				return fmt.Errorf("folder %.80q: %.80q is not a file name", f.Path, name)
			}
		}
		if f.Mode&^0o777 != 0 {
			return fmt.Errorf("folder %.80q: %o is not a mode", f.Path, f.Mode)
		}
		if len(f.Links) > 0 && (!path.IsAbs(f.Outside) || strings.Contains(f.Outside, "\x00") || len(f.Outside)+1+maxName >= unix.PathMax) {
			return fmt.Errorf("folder %.80q: its links must lead to an absolute path, not %.80q", f.Path, f.Outside)
		}
	}
	return nil
}

// SetSkeleton makes what is missing of the folders now, and again at the
// beginning of every session.
func (s *Server) SetSkeleton(folders []Folder) (err error) {
	if err := CheckSkeleton(folders); err != nil {
		return err
	}
	s.quietly(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gone.Load() {
			err = errStopped
			return
		}
		s.cfg.Skeleton = folders
		err = s.furnish(".")
	})
	return err
}

// furnish makes what is missing of the skeleton at under and below it, one
// operation each: done again after a crash, it goes on. What has a name that
// is wanted stays, whatever it is.
func (s *Server) furnish(under string) error {
	if s.readOnly != "" {
		return fmt.Errorf("the filesystem is read-only, %s: wipe it", s.readOnly)
	}
	var errs []error
	for _, f := range s.cfg.Skeleton {
		if under == "." || below(under, f.Path) {
			errs = append(errs, s.furnishFolder(f, f.Links))
			continue
		}
		for _, name := range f.Links {
			if below(under, path.Join(f.Path, name)) {
				errs = append(errs, s.furnishFolder(f, []string{name}))
			}
		}
	}
	return errors.Join(errs...)
}

// below says whether a path is dir or lies below it.
func below(dir, name string) bool { return strings.HasPrefix(name+"/", dir+"/") }

func (s *Server) furnishFolder(f Folder, links []string) error {
	p := s.inodes[rootIno]
	for name := range strings.SplitSeq(f.Path, "/") {
		n, err := s.provide(p, name, unix.S_IFDIR|f.Mode, "")
		if err != nil {
			return fmt.Errorf("make the directory %s: %w", f.Path, err)
		}
		if !n.isDir() {
			return fmt.Errorf("make the directory %s: %w: something else has that name, %s", f.Path, unix.ENOTDIR, name)
		}
		p = n
	}
	for _, name := range links {
		if _, err := s.provide(p, name, unix.S_IFLNK|0o777, f.Outside+"/"+name); err != nil {
			return fmt.Errorf("make the link %s/%s: %w", f.Path, name, err)
		}
	}
	return nil
}

// provide finds a name in p, or makes it.
func (s *Server) provide(p *inode, name string, mode uint32, to string) (*inode, error) {
	if e := p.dir.get([]byte(name)); e != nil {
		return s.inodes[e.ino], nil
	}
	if errno := s.room(0); errno != 0 {
		return nil, errno
	}
	if errno := s.vacant(p, []byte(name)); errno != 0 {
		return nil, errno
	}
	var sealed target
	if to != "" {
		var errno unix.Errno
		if sealed, errno = s.sealTarget([]byte(to)); errno != 0 { // the configuration has it: it is no secret
			return nil, errno
		}
	}
	n := s.makeInode(s.cfg.UID, s.cfg.GID, p, mode, 0)
	if n.isSymlink() {
		s.aim(n, sealed)
	}
	s.add(p, []byte(name), n)
	s.tx.put(n)
	p.changed(n.btime)
	s.tx.commit()
	s.notify(Notice{Parent: p.ino, Name: []byte(name)})
	s.notify(Notice{Ino: p.ino})
	return n, nil
}
