package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// A link can be broken: somebody removes it, as rm -r does, and the next run of
// the app makes a directory in its place. Or an app that a variable redirects
// runs where that is not set.

// onDisk is where secrets of a linked place would be on disk.
func (l *link) onDisk() string {
	if l.File != "" {
		return l.Dir
	}
	return l.kept()
}

// planMend finds out what mending a linked place puts at risk, and whether it
// can be done.
func (e *Engine) planMend(p *Place, l *link) ([]Cost, error) {
	if e.switched(l) {
		strays := p.movedIn(l.onDisk())
		for _, name := range strays {
			if err := e.movable(l, l.onDisk(), name); err != nil {
				return nil, err
			}
		}
		return p.costs(l.onDisk(), strays)
	}
	st, err := os.Lstat(l.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !st.IsDir():
		return nil, fmt.Errorf("%s was a link to the filesystem, and %s: remove it, then try again", l.Dir, broken(l))
	}
	if err := p.refuseLocked(l.Dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !utf8.ValidString(entry.Name()) {
			return nil, usagef("%q in %s is not UTF-8: such names cannot be linked", entry.Name(), l.Dir)
		}
	}
	moved := p.movedIn(l.Dir)
	for _, name := range moved {
		if err := movable(filepath.Join(l.Dir, name)); err != nil {
			return nil, err
		}
	}
	return p.costs(l.Dir, moved)
}

// mend puts a link back. What an app has written in its place is newer than
// what there was, and goes where it would have gone: secrets onto the mount,
// everything else to what was kept. Each file is in either place at any moment,
// so that an interrupted run is completed by the next.
func (e *Engine) mend(s *state, l *link) error {
	gone := e.brokenAt(l)
	if len(l.Kept) > 0 {
		if err := os.MkdirAll(l.kept(), 0o700); err != nil {
			return err
		}
	}
	if err := e.furnish(s); err != nil {
		return err
	}
	place := placeFor(l)
	if e.switched(l) {
		if gone != "" {
			e.Result("made again what %s", e.Dirs.Contract(l.Dir)+" "+gone)
		}
		return errors.Join(e.putBack(l), e.gather(l, place))
	}
	release, err := place.hold(l.Dir)
	if err != nil {
		return err
	}
	defer release()
	entries, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		from := filepath.Join(l.Dir, name)
		switch {
		case place.isLock(name), place.isFlock(name):
			err = os.Remove(from)
		case place.moves(name):
			if err = e.copyTree(from, filepath.Join(e.target(l), name)); err == nil {
				_, err = e.erase(from)
			}
		default:
			if !slices.Contains(l.Kept, name) {
				l.Kept = append(l.Kept, name)
			}
			err = merge(from, filepath.Join(l.kept(), name))
		}
		if err != nil {
			return err
		}
		e.at("mended")
	}
	if err := errors.Join(e.save(s), e.furnish(s)); err != nil {
		return err
	}
	if err := os.Remove(l.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(e.target(l), l.Dir); err != nil {
		return err
	}
	e.Result("linked %s again: the link had been removed", e.Dirs.Contract(l.Dir))
	return nil
}

// gather moves secrets in that have come to lie on disk.
func (e *Engine) gather(l *link, place *Place) error {
	for _, name := range place.movedIn(l.onDisk()) {
		from := filepath.Join(l.onDisk(), name)
		if err := e.copyTree(from, filepath.Join(e.target(l), name)); err != nil {
			return err
		}
		if _, err := e.erase(from); err != nil {
			return err
		}
		e.Result("moved in %s, which was on disk", e.Dirs.Contract(from))
	}
	return nil
}

// merge moves a file or tree over another one; what is newer replaces.
func merge(from, to string) error {
	a, err := os.Lstat(from)
	if err != nil {
		return err
	}
	b, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.Rename(from, to)
	case err != nil:
		return err
	case a.IsDir() && b.IsDir():
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := merge(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
		return os.Remove(from)
	case a.IsDir() || b.IsDir():
		return fmt.Errorf("%s and %s are not of a kind: remove the one you do not need, then try again", from, to)
	}
	return os.Rename(from, to)
}
