package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Unlink puts an application back to where it was. Its secrets come along only
// if keep is set, and otherwise end here.
func (e *Engine) Unlink(name string, keep, yesLose bool) error {
	s, release, err := e.begin()
	if err != nil {
		return err
	}
	defer release()
	var todo []*link
	shared := false
	for _, l := range s.Links {
		if !slices.Contains(l.Apps, name) {
			continue
		}
		if len(l.Apps) > 1 {
			l.Apps = slices.DeleteFunc(l.Apps, func(app string) bool { return app == name })
			e.Say("%s stays linked: %s uses it", e.Dirs.Contract(l.Dir), strings.Join(l.Apps, ", "))
			shared = true
			continue
		}
		todo = append(todo, l)
	}
	if len(todo) == 0 {
		if !shared {
			e.Result("%s is not linked", name)
		}
		if e.DryRun {
			return nil
		}
		return e.save(s)
	}
	var releases []func()
	defer func() {
		for _, release := range releases {
			release()
		}
	}()
	var costs []Cost
	for _, l := range todo {
		release, risks, err := e.planBack(l, keep)
		if err != nil {
			return err
		}
		releases = append(releases, release)
		costs = append(costs, risks...)
	}
	if e.DryRun {
		e.foretellBack(todo)
	}
	if len(costs) > 0 && !yesLose {
		return fmt.Errorf("%w, or bring them back with --keep-tokens", &CostError{costs, true})
	}
	if e.DryRun {
		return nil
	}
	for _, l := range todo {
		l.Phase = unlinking
		l.Stays = false // whatever is on the mount is the app's by now
	}
	if err := e.save(s); err != nil {
		return err
	}
	e.at("unlinking")
	if err := e.bringBack(todo); err != nil {
		defer e.undisturbed()()
		for _, l := range todo {
			err = errors.Join(err, e.stayLinked(s, l))
		}
		return fmt.Errorf("%w (it is linked, as before)", err)
	}
	for _, l := range todo {
		if err := e.unlinked(s, l); err != nil {
			return err
		}
		e.Result("unlinked %s", e.Dirs.Contract(filepath.Join(l.Dir, l.File)))
	}
	return e.writeVariables(s)
}

// planBack finds what is to be brought back, and what that leaves to be lost.
func (e *Engine) planBack(l *link, keep bool) (release func(), costs []Cost, err error) {
	release = func() {}
	if e.onMount(filepath.Dir(l.Dir)) {
		return release, nil, fmt.Errorf("%s is in a directory that is linked itself: unlink that first", e.Dirs.Contract(l.Dir))
	}
	if !e.switched(l) {
		if _, err := os.Lstat(l.Dir); err == nil {
			return release, nil, fmt.Errorf("%s has been replaced since it was linked; what it was is in %s: merge them by hand, remove %s, then try again", l.Dir, l.kept(), l.Dir)
		}
	}
	l.Back = nil
	if !e.Mounted {
		if keep {
			return release, nil, fmt.Errorf("nothing is mounted on %s, so there are no tokens to keep: leave out --keep-tokens", e.Mountpoint)
		}
		return release, nil, nil
	}
	place := placeFor(l)
	if err := place.refuseLocked(e.target(l)); err != nil {
		return release, nil, err
	}
	if !e.DryRun {
		if release, err = place.hold(e.target(l)); err != nil {
			return func() {}, nil, err
		}
	}
	entries, err := os.ReadDir(e.target(l))
	if errors.Is(err, fs.ErrNotExist) {
		return release, nil, nil
	}
	if err != nil {
		return release, nil, err
	}
	var ends []string
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case place.isLock(name), place.isFlock(name):
		case l.leadsOut(e.target(l), name):
		case !place.moves(name), keep:
			l.Back = append(l.Back, name)
		default:
			ends = append(ends, name)
		}
	}
	if len(ends) > 0 {
		costs, err = place.costs(e.target(l), ends)
	}
	return release, costs, err
}

// leadsOut says whether an entry on the mount is the link to what was kept.
func (l *link) leadsOut(dir, name string) bool {
	target, err := os.Readlink(filepath.Join(dir, name))
	return err == nil && target == filepath.Join(l.kept(), name)
}

// unfinished is what a file is called on disk until all of it is there.
func unfinished(name string) string { return name + ".tokenfs" }

// bringBack copies to disk what was planned, and switches back.
func (e *Engine) bringBack(todo []*link) error {
	for _, l := range todo {
		dir := l.onDisk()
		for _, name := range l.Back {
			to := filepath.Join(dir, name)
			if err := e.copyTree(filepath.Join(e.target(l), name), unfinished(to)); err != nil {
				return err
			}
			e.at("copied back")
			if err := os.RemoveAll(to); err != nil {
				return err
			}
			if err := os.Rename(unfinished(to), to); err != nil {
				return err
			}
		}
	}
	for _, l := range todo {
		if err := e.switchBack(l); err != nil {
			return err
		}
		e.at("switched back")
	}
	return nil
}

// unlinked tidies up after a link that is not in effect any more.
func (e *Engine) unlinked(s *state, l *link) error {
	if err := e.switchBack(l); err != nil {
		return err
	}
	return e.forget(s, l)
}
