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
func (e *Engine) plan(s *state, a App, p *Place, dir string, also []*link) (*link, []Cost, error) {
	if l := s.find(dir, p.File); l != nil {
		if !slices.Contains(l.Apps, a.Name) {
			l.Apps = append(l.Apps, a.Name)
		}
		costs, err := e.planMend(placeFor(l), l)
		return nil, costs, err
	}
	l := &link{Dir: dir, Name: p.Name, Mode: 0o700, Apps: []string{a.Name}, Phase: linking, File: p.File}
	if slices.ContainsFunc(slices.Concat(s.Links, also), func(other *link) bool { return other.Name == p.Name }) {
		l.Name, l.Place = mountName(dir), p.Name // of another directory of this app
	}
	if p.unknown && e.Renewable {
		l.Renewable = true
		p = placeFor(l)
	}
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

// dirsOf are the directories that an app uses as this place: the one that its
// variable names, if that is set, and then also the usual one, if there are
// secrets in it.
func (e *Engine) dirsOf(s *state, a App, p *Place) ([]string, error) {
	dir, value := e.Dirs.Expand(p.Dir), e.variableOf(p)
	if value == "" {
		return []string{dir}, nil
	}
	if p.File != "" || p.Names != "" || !filepath.IsAbs(value) {
		return nil, usagef("%s is set to %s here, and that is where %s looks, not in %s: unset it, then try again", p.Variable, value, a.Name, e.Dirs.Contract(filepath.Join(dir, p.File)))
	}
	paths := []string{value}
	if real, err := filepath.EvalSymlinks(value); err == nil && !e.onMount(real) {
		paths = append(paths, real)
	}
	for _, path := range paths {
		if why := e.reserved(path); why != "" && !below(dir, path) {
			return nil, usagef("%s is set to %s here, and that is not linked: %s", p.Variable, value, why)
		}
	}
	if s.find(dir, p.File) != nil || len(p.movedIn(dir)) > 0 {
		return []string{value, dir}, nil
	}
	return []string{value}, nil
}

// variableOf is what a place's variable says, if that is neither what holds
// anyway nor a path on the mount.
func (e *Engine) variableOf(p *Place) string {
	if p.Variable == "" {
		return ""
	}
	value := e.Getenv(p.Variable)
	if value == "" || below(e.Mountpoint, value) || filepath.Clean(value) == filepath.Join(e.Dirs.Expand(p.Dir), p.Names, p.File) {
		return ""
	}
	if filepath.IsAbs(value) {
		return filepath.Clean(value)
	}
	return value
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

// inventory says of each file that moves, or would, what it is.
func (p *Place) inventory(dir string, moved []string) (files []Cost, err error) {
	for _, name := range moved {
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			s, ok := p.secret(rel)
			if !ok || p.isLock(d.Name()) || p.isFlock(d.Name()) {
				return nil
			}
			if s.Class == Renewable || p.unknown {
				if what := shapesIn(path); what != "" {
					s.Class, s.What = Irreplaceable, what
				}
			}
			files = append(files, Cost{path, s.Class, s.What})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// costs are the files among moved that no login brings back.
func (p *Place) costs(dir string, moved []string) (costs []Cost, err error) {
	files, err := p.inventory(dir, moved)
	if err != nil {
		return nil, err
	}
	costs = slices.DeleteFunc(files, func(c Cost) bool { return c.Class == Renewable })
	if len(costs) == 0 && p.costly() && !p.unknown {
		for _, s := range p.Secrets {
			if s.Class == Renewable {
				continue
			}
			costs = append(costs, Cost{filepath.Join(dir, s.Pattern), s.Class, s.What + ", once there are any"})
		}
	}
	return costs, nil
}

// fits refuses what there is no room for on the mount.
func (e *Engine) fits(todo []*link) error {
	var bytes, files int64
	for _, l := range todo {
		for _, name := range l.Moved {
			filepath.WalkDir(filepath.Join(l.Dir, name), func(_ string, d fs.DirEntry, err error) error {
				if err == nil {
					files++
					if st, err := d.Info(); err == nil && d.Type().IsRegular() {
						bytes += st.Size()
					}
				}
				return nil
			})
		}
	}
	if files == 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.Mountpoint, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: e.Mountpoint, Err: err}
	}
	room := int64(st.Bavail) * st.Bsize
	if bytes > room || files > int64(st.Ffree) {
		return fmt.Errorf("%d KiB in %d files are to be moved in, and the filesystem on %s has room for %d KiB and %d: mount it with a larger size, or link less", bytes>>10, files, e.Mountpoint, room>>10, st.Ffree)
	}
	return nil
}
