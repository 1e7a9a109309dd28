package apps

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// recover ends what an earlier run had begun, in the old or the new state, and
// says in which. What was begun together ends together.
func (e *Engine) recover(s *state) error {
	// All that is to come back has been copied before anything is exchanged.
	back := slices.ContainsFunc(s.Links, func(l *link) bool { return l.Phase == leaving || l.Phase == unlinking && !e.switched(l) })
	if back { // decided for all of them, before any is gone from the list
		for _, l := range s.Links {
			if l.Phase == unlinking {
				l.Phase = leaving
			}
		}
		if err := e.save(s); err != nil {
			return err
		}
	}
	for _, l := range slices.Clone(s.Links) {
		var err error
		var how string
		switch l.Phase {
		case linking: // nothing on disk has been erased
			if err = e.takeBack(s, l); err == nil {
				err = e.forget(s, l)
			}
			how = "it is as it was before"
		case erasing:
			err, how = e.eraseMoved(s, l), "it is linked"
		case unlinking: // still redirected
			err, how = e.stayLinked(s, l), "it is linked, as before"
		case leaving:
			err, how = e.unlinked(s, l), "it is not linked any more"
		default:
			continue
		}
		what := fmt.Sprintf("an earlier run was interrupted over %s (%s)", e.Dirs.Contract(filepath.Join(l.Dir, l.File)), strings.Join(l.Apps, ", "))
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		e.Say("%s: %s", what, how)
	}
	return e.writeVariables(s)
}

// takeBack undoes a link from which nothing has been erased.
func (e *Engine) takeBack(s *state, l *link) error {
	if l.fromNothing() && !e.switched(l) {
		for _, made := range slices.Backward(l.Made) {
			unix.Rmdir(l.whileLinking(made))
		}
	} else if err := e.switchBack(l); err != nil {
		return err
	}
	e.at("switched back")
	l.Phase = leaving
	return placeFor(l).removeStale(l.Dir)
}

// stayLinked undoes an unlinking that has not come to the exchange.
func (e *Engine) stayLinked(s *state, l *link) error {
	dir := l.onDisk()
	for _, name := range l.Back {
		for _, copied := range []string{name, unfinished(name)} {
			if _, err := e.erase(filepath.Join(dir, copied)); err != nil {
				return err
			}
		}
	}
	l.Phase, l.Back = linked, nil
	place := placeFor(l)
	if err := place.removeStale(e.target(l)); err != nil {
		return err
	}
	return e.save(s)
}
