package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	tokenfs "tokenfs/fs"
)

// An Engine redirects applications to one filesystem and back.
type Engine struct {
	Dirs       Dirs
	Mountpoint string
	Mounted    bool

	SetSkeleton func([]tokenfs.Folder) error
	Wipe        func(path string) error          // relative to the mount
	Result      func(format string, args ...any) // what was asked for
	Say         func(format string, args ...any) // everything else
	Getenv      func(string) string
	IsMounted   func(mountpoint string) bool
	Private     bool        // the mount is for one process tree
	Interrupted func() bool // nothing more is to be begun

	DryRun    bool // say what linking and unlinking would do
	Renewable bool // a login brings back what is linked by path

	step func(string) // tests end the process at one of these
}

func (e *Engine) at(step string) {
	if e.step != nil {
		e.step(step)
	}
}

// target is what a redirected directory leads to.
func (e *Engine) target(l *link) string { return filepath.Join(e.Mountpoint, l.Name) }

// switched says whether l is in effect.
func (e *Engine) switched(l *link) bool {
	if l.File != "" {
		return l.Phase != linking && l.Phase != leaving
	}
	target, err := os.Readlink(l.Dir)
	return err == nil && target == e.target(l)
}

// begin locks and reads the list, and settles what an earlier run left. A dry run
// only reads it.
func (e *Engine) begin() (*state, func(), error) {
	var st unix.Stat_t
	if err := unix.Stat(e.Dirs.Home, &st); err != nil {
		return nil, nil, fmt.Errorf("home directory %s: %w", e.Dirs.Home, err)
	}
	if int(st.Uid) != os.Geteuid() { // what is made there would not be its owner's
		return nil, nil, usagef("HOME is %s, which belongs to uid %d, and this is uid %d (sudo can leave it so): run it as its owner", e.Dirs.Home, st.Uid, os.Geteuid())
	}
	release := func() {}
	if !e.DryRun {
		var err error
		if release, err = lockState(filepath.Dir(List(e.Dirs))); err != nil {
			return nil, nil, err
		}
	}
	begun := false
	defer func() {
		if !begun {
			release()
		}
	}()
	s, err := e.read()
	if err == nil && !e.DryRun {
		err = errors.Join(s.moveHome(), e.repoint(s))
	}
	if err == nil && !e.DryRun {
		err = e.recover(s)
	}
	if err != nil {
		return nil, nil, err
	}
	begun = true
	return s, release, nil
}

// read reads the list, if it is of this filesystem.
func (e *Engine) read() (*state, error) {
	s, err := loadState(List(e.Dirs), e.Dirs.Home)
	if err == nil {
		err = e.checkFiles(s)
	}
	if err == nil && len(s.Links) > 0 && s.Mountpoint != e.Mountpoint && (e.Private || e.IsMounted != nil && e.IsMounted(s.Mountpoint)) {
		err = usagef("apps are linked to %s, and the filesystem asked for is %s: unlink them with --mountpoint %s first", s.Mountpoint, e.Mountpoint, s.Mountpoint)
	}
	if err == nil && e.DryRun && slices.ContainsFunc(s.Links, func(l *link) bool { return l.Phase != linked }) {
		err = fmt.Errorf("an earlier run was interrupted: the next one that is not dry settles that")
	}
	return s, err
}

// repoint has links lead to this filesystem that lead to where one was before: a
// runtime directory has another name where the user has another uid, or the home
// came from another host. Done again, it goes on where it was interrupted.
func (e *Engine) repoint(s *state) error {
	before := s.Mountpoint
	if len(s.Links) == 0 || before == e.Mountpoint {
		s.Mountpoint = e.Mountpoint
		return nil
	}
	there := *e
	there.Mountpoint, there.Mounted = before, false
	if err := there.recover(s); err != nil { // what was begun for the place before
		return err
	}
	for _, l := range s.Links {
		if l.File != "" || !there.switched(l) {
			continue
		}
		if err := os.Symlink(e.target(l), unfinished(l.kept())); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		e.at("link made")
		if err := os.Rename(unfinished(l.kept()), l.Dir); err != nil {
			return err
		}
		e.at("repointed")
	}
	s.Mountpoint = e.Mountpoint
	if err := e.joined(s); err != nil {
		return err
	}
	e.Say("apps were linked to %s, where nothing is mounted: they lead to %s now", before, e.Mountpoint)
	return nil
}

func (e *Engine) save(s *state) error {
	err := s.save()
	e.at("saved")
	return err
}

// furnish has the filesystem begin its sessions as the list says.
func (e *Engine) furnish(s *state) error {
	if !e.Mounted {
		return nil
	}
	return e.SetSkeleton(s.skeleton())
}

// switchOver puts l into effect, by one exchange of names.
func (e *Engine) switchOver(l *link) error {
	if l.File != "" {
		return nil
	}
	if _, err := os.Lstat(l.Dir); errors.Is(err, fs.ErrNotExist) {
		return os.Symlink(e.target(l), l.Dir) // nothing was there, and kept() has been made
	}
	if err := os.Symlink(e.target(l), l.kept()); err != nil {
		return err
	}
	e.at("link made")
	if err := exchange(l.kept(), l.Dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(l.Dir))
}

// switchBack undoes switchOver, wherever it has come to.
func (e *Engine) switchBack(l *link) error {
	if l.File != "" {
		return nil
	}
	if err := settleExchange(l.kept(), l.Dir); err != nil {
		return err
	}
	if e.switched(l) {
		if _, err := os.Lstat(l.kept()); err != nil {
			return fmt.Errorf("%s is linked to the filesystem, and what it was is not in %s any more (%w): put it back there, or remove the link", l.Dir, l.kept(), err)
		}
		if err := exchange(l.kept(), l.Dir); err != nil {
			return err
		}
		e.at("exchanged back")
	}
	switch target, err := os.Readlink(l.kept()); {
	case err == nil && target == e.target(l):
		return os.Remove(l.kept())
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// What it was is still, or again, there: the link is gone, or was never made.
	if _, err := os.Lstat(l.Dir); err == nil {
		return fmt.Errorf("%s has been replaced since it was linked; what it was is in %s: merge them by hand, remove that one, then try again", l.Dir, l.kept())
	}
	return os.Rename(l.kept(), l.Dir)
}

// restore makes the directory look as it did.
func (l *link) restore() {
	for _, made := range slices.Backward(l.Made) {
		unix.Rmdir(made) // unless the app has put something there
	}
	if !l.Times[1].IsZero() {
		os.Chtimes(l.Dir, l.Times[0], l.Times[1])
	}
}

// forget takes l off the list, the mount and the disk; it is not in effect.
func (e *Engine) forget(s *state, l *link) error {
	l.Phase = leaving
	if err := e.save(s); err != nil {
		return err
	}
	e.at("leaving")
	if e.Mounted {
		if err := e.furnish(s); err != nil {
			return err
		}
		paths := []string{l.Name}
		if l.Stays {
			paths = nil
			for _, name := range l.Moved {
				paths = append(paths, l.Name+"/"+name)
			}
			for _, name := range l.Kept {
				if l.leadsOut(e.target(l), name) {
					paths = append(paths, l.Name+"/"+name)
				}
			}
		}
		for _, path := range paths {
			if _, err := os.Lstat(filepath.Join(e.Mountpoint, path)); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := e.Wipe(path); err != nil {
				return fmt.Errorf("wipe %s: %w", path, err)
			}
		}
	}
	e.at("wiped")
	l.restore()
	s.drop(l)
	return e.save(s)
}

// dirTimes are a directory's times, to be set again when it is back.
func dirTimes(dir string) (times [2]time.Time) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		times = [2]time.Time{time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix())}
	}
	return times
}

// onMount says whether a path is in the filesystem, by way of any link, be it
// mounted or not.
func (e *Engine) onMount(name string) bool {
	if target, err := os.Readlink(name); err == nil && below(e.Mountpoint, target) {
		return true
	}
	real, err := filepath.EvalSymlinks(name)
	return below(e.Mountpoint, name) || err == nil && below(e.Mountpoint, real)
}
