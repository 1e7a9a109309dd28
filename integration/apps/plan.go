package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// plan finds out what linking a place means, and whether it can be done; nil
// if it is linked.
func (e *Engine) plan(s *state, a App, p *Place) (*link, []Cost, error) {
	dir := e.Dirs.Expand(p.Dir)
	if l := s.find(dir, p.File); l != nil {
		if !slices.Contains(l.Apps, a.Name) {
			l.Apps = append(l.Apps, a.Name)
		}
		costs, err := e.planMend(p, l)
		return nil, costs, err
	}
	l := &link{Dir: dir, Name: p.Name, Mode: 0o700, Apps: []string{a.Name}, Phase: linking, File: p.File}
	if p.File != "" {
		l.Variable = p.Variable
	}
	if !utf8.ValidString(dir) {
		return nil, nil, usagef("%q is not UTF-8: such names cannot be linked", dir)
	}
	if e.onMount(filepath.Dir(dir)) {
		return nil, nil, fmt.Errorf("%s is in a directory that is linked itself: unlink that, link this, then link that again", e.Dirs.Contract(dir))
	}
	if e.onMount(dir) {
		return nil, nil, fmt.Errorf("%s leads to the filesystem already, by a link that is not on the list: remove the link (what it leads to stays), then try again", dir)
	}
	if _, err := os.Lstat(l.kept()); err == nil && p.File == "" {
		return nil, nil, fmt.Errorf("%s is in the way: move it away, or back to %s if it was that", l.kept(), l.Dir)
	}
	if err := p.refuseLocked(dir); err != nil {
		return nil, nil, err
	}
	if st, err := os.Stat(e.target(l)); err == nil {
		l.Stays = true
		l.Mode = uint32(st.Mode().Perm())
	}
	if err := e.planEntries(p, l); err != nil {
		return nil, nil, err
	}
	l.planMade(p.Keep)
	costs, err := p.costs(dir, l.Moved)
	return l, costs, err
}

// planEntries sorts what is in the directory by where it goes.
func (e *Engine) planEntries(p *Place, l *link) error {
	st, err := os.Stat(l.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(l.Dir); err == nil {
			return fmt.Errorf("%s is a link that leads nowhere: remove it, then try again", l.Dir)
		}
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s is not a directory: move it away, then try again", l.Dir)
	default:
		if p.File == "" {
			l.Times = dirTimes(l.Dir)
			l.Mode = uint32(st.Mode().Perm())
		}
	}
	entries, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case p.File != "" && name != p.File, p.isLock(name), p.isFlock(name):
		case !utf8.ValidString(name): // the list could not name it
			return usagef("%q in %s is not UTF-8: such names cannot be linked", name, l.Dir)
		case p.File != "" || p.moves(name):
			if err := e.movable(l, l.Dir, name); err != nil {
				return err
			}
			l.Moved = append(l.Moved, name)
		default:
			l.Kept = append(l.Kept, name)
		}
	}
	for _, name := range p.Keep {
		if name = strings.TrimSuffix(name, "/"); !slices.Contains(l.Kept, name) {
			l.Kept = append(l.Kept, name)
		}
	}
	return nil
}

// movable refuses what could not be moved onto the mount, or would replace what
// is there.
func (e *Engine) movable(l *link, dir, name string) error {
	if err := movable(filepath.Join(dir, name)); err != nil {
		return err
	}
	there := filepath.Join(e.target(l), name)
	if _, err := os.Lstat(there); err == nil {
		return fmt.Errorf("both %s and %s exist: remove the one you do not need, then try again", filepath.Join(dir, name), there)
	}
	return nil
}

// movable refuses what could not be moved and brought back as it is.
func movable(name string) error {
	if st, err := os.Lstat(name); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link: put the file it leads to in its place, then try again", name)
	}
	return filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to uid %d: chown it, or remove it, then try again", path, st.Uid)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			return fmt.Errorf("%s has another name somewhere, which would keep the tokens: remove that, then try again", path)
		}
		return nil
	})
}

// costs are the files among moved that no login brings back.
func (p *Place) costs(dir string, moved []string) (costs []Cost, err error) {
	for _, name := range moved {
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if s, ok := p.secret(rel); ok && s.Class != Renewable {
				costs = append(costs, Cost{path, s.Class, s.What})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(costs) == 0 && p.costly() {
		for _, s := range p.Secrets {
			if s.Class == Renewable {
				continue
			}
			costs = append(costs, Cost{filepath.Join(dir, s.Pattern), s.Class, s.What + ", once there are any"})
		}
	}
	return costs, nil
}
