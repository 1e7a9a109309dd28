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

// A Cost is a file that the end of the session takes and no login brings back.
type Cost struct {
	Path  string `json:"path"`
	Class Class  `json:"class"`
	What  string `json:"what"`
}

// CostError is a refusal to put at risk what cannot be had again.
type CostError struct{ Costs []Cost }

func (c *CostError) Error() string {
	var b strings.Builder
	b.WriteString("refused, because the next logout or wipe would take, and no login bring back:\n")
	for _, cost := range c.Costs {
		fmt.Fprintf(&b, "  %s: %s (%s)\n", cost.Path, cost.What, cost.Class)
	}
	b.WriteString("keep copies elsewhere, then try again with --yes-lose")
	return b.String()
}

// Link redirects an application. It changes nothing unless all of it can be
// done; a run that is interrupted is taken back or completed by the next.
func (e *Engine) Link(a App, yesLose bool) (err error) {
	s, release, err := e.begin()
	if err != nil {
		return err
	}
	defer release()
	var todo []*link
	var costs []Cost
	var releases []func()
	letGo := func() {
		for _, release := range releases {
			release()
		}
		releases = nil
	}
	defer letGo()
	for i := range a.Places {
		p := &a.Places[i]
		l, risks, err := e.plan(s, a, p)
		if err != nil {
			return err
		}
		if costs = append(costs, risks...); l != nil {
			todo = append(todo, l)
		}
	}
	if len(costs) > 0 && !yesLose {
		return &CostError{costs}
	}
	for _, l := range s.Links {
		if slices.Contains(l.Apps, a.Name) && !slices.Contains(todo, l) {
			if err := e.mend(s, l); err != nil {
				return err
			}
		}
	}
	if len(todo) == 0 {
		e.Result("%s is linked already", a.Name)
		return e.joined(s)
	}
	for _, l := range todo {
		if l.File == "" {
			place := placeFor(e.Dirs, l)
			release, err := place.hold(l.Dir)
			if err != nil {
				return err
			}
			releases = append(releases, release)
		}
	}
	s.Links = append(s.Links, todo...)
	if err := e.save(s); err != nil {
		return err
	}
	e.at("linking")
	if err := e.redirect(s, todo); err != nil {
		letGo()
		return e.giveUp(s, todo, err)
	}
	letGo() // the apps are on the mount now
	for _, l := range todo {
		if err := e.eraseMoved(s, l); err != nil {
			return fmt.Errorf("%s is linked, but copies on disk are left: %w: run tokenfs link again", a.Name, err)
		}
	}
	e.tell(a, todo)
	return e.joined(s)
}

// joined ends what changed nothing but the list.
func (e *Engine) joined(s *state) error {
	return errors.Join(e.save(s), e.furnish(s), e.writeVariables(s))
}

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
		if p.File != "" {
			return fmt.Errorf("%s does not exist: make it, then try again", l.Dir)
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
		case p.File != "" || p.moves(name):
			if err := e.movable(l, l.Dir, name); err != nil {
				return err
			}
			l.Moved = append(l.Moved, name)
		case !utf8.ValidString(name):
			return usagef("%q in %s is not UTF-8: such names cannot be linked", name, l.Dir)
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

// redirect copies, switches over, and copies again what was changed meanwhile.
func (e *Engine) redirect(s *state, todo []*link) error {
	if err := e.furnish(s); err != nil {
		return err
	}
	e.at("furnished")
	before := make(map[string]unix.Stat_t)
	for _, l := range todo {
		if err := e.prepare(l); err != nil {
			return err
		}
		for _, name := range l.Moved {
			stamps(filepath.Join(l.Dir, name), before)
			if err := copyTree(filepath.Join(l.Dir, name), filepath.Join(e.target(l), name)); err != nil {
				return err
			}
			e.at("copied")
		}
	}
	for _, l := range todo {
		if err := e.switchOver(l); err != nil {
			return err
		}
		e.at("switched")
	}
	for _, l := range todo {
		if err := e.copyAgain(l, before); err != nil {
			return err
		}
	}
	for _, l := range todo {
		l.Phase = erasing
	}
	if err := errors.Join(e.save(s), e.writeVariables(s)); err != nil {
		return err
	}
	e.at("erasing")
	return nil
}

// planMade notes which directories are missing, before they are made.
func (l *link) planMade(keep []string) {
	if l.File != "" {
		return
	}
	missing := func(dir string) bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	}
	for dir := l.Dir; missing(dir); dir = filepath.Dir(dir) {
		l.Made = slices.Insert(l.Made, 0, dir)
	}
	for _, name := range keep {
		if dir := filepath.Join(l.Dir, name); strings.HasSuffix(name, "/") && missing(dir) {
			l.Made = append(l.Made, dir)
		}
	}
}

// fromNothing says that there was no directory: what is kept on disk is made
// where it is to be, and linking is making the link.
func (l *link) fromNothing() bool { return slices.Contains(l.Made, l.Dir) }

// whileLinking is where a directory of Made is before the link is in effect.
func (l *link) whileLinking(made string) string {
	if rest, ok := strings.CutPrefix(made+"/", l.Dir+"/"); ok && l.fromNothing() {
		return filepath.Join(l.kept(), rest)
	}
	return made
}

// prepare makes the directories that are to be there.
func (e *Engine) prepare(l *link) error {
	for _, made := range l.Made {
		if err := os.Mkdir(l.whileLinking(made), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		e.at("made")
	}
	return nil
}

// copyAgain is for an app that wrote to a file that it had open, in spite of
// all locks, between the copy and the exchange.
func (e *Engine) copyAgain(l *link, before map[string]unix.Stat_t) error {
	dir := l.onDisk()
	for _, name := range l.Moved {
		now := make(map[string]unix.Stat_t)
		stamps(filepath.Join(dir, name), now)
		for path, st := range now {
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if before[filepath.Join(l.Dir, rel)] == st {
				continue
			}
			if err := copyTree(filepath.Join(dir, name), filepath.Join(e.target(l), name)); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// eraseMoved ends a link: what is on the mount goes from the disk.
func (e *Engine) eraseMoved(s *state, l *link) error {
	dir := l.onDisk()
	for _, name := range l.Moved {
		if _, err := erase(filepath.Join(dir, name)); err != nil {
			return err
		}
		e.at("erased")
	}
	if err := placeFor(e.Dirs, l).removeStale(dir); err != nil {
		return err
	}
	l.Phase = linked
	return e.save(s)
}

// giveUp takes everything back after a failure.
func (e *Engine) giveUp(s *state, todo []*link, why error) error {
	for _, step := range []func(*state, *link) error{e.takeBack, e.forget} {
		for _, l := range todo {
			if err := step(s, l); err != nil {
				return errors.Join(why, fmt.Errorf("taking it back failed, too: %w: the next tokenfs link tries again", err))
			}
		}
	}
	return fmt.Errorf("%w (nothing is linked, everything is as it was)", why)
}

func (e *Engine) tell(a App, todo []*link) {
	for _, p := range a.Places {
		if value := e.Getenv(p.Variable); value != "" && !e.onMount(value) && !strings.HasPrefix(value, e.Mountpoint+"/") {
			e.Say("warning: %s is set to %s here, and that is where %s looks: unset it", p.Variable, value, a.Name)
		}
	}
	for _, s := range a.Settings {
		if value, _ := e.effective(s); s.Command != "" && value != "" && !sameValue(value, s.Value) {
			e.Say("run %s: %s", s.Command, s.Why)
		}
	}
	for _, l := range todo {
		from := e.Dirs.Contract(filepath.Join(l.Dir, l.File))
		if l.File != "" {
			e.Result("linked %s by %s, which is set in %s", from, l.Variable, e.Dirs.Contract(e.variablesFile()))
		} else {
			e.Result("linked %s", from)
		}
		if len(l.Moved) > 0 {
			e.Say("moved in %s; the copies on disk are overwritten and removed, but %s: revoke the old tokens if that matters",
				strings.Join(l.Moved, ", "), erasure(filepath.Dir(l.Dir)))
		}
	}
}

// placeFor finds what the table says of a linked place.
func placeFor(d Dirs, l *link) *Place {
	for _, a := range Table {
		for i := range a.Places {
			if p := &a.Places[i]; d.Expand(p.Dir) == l.Dir && p.File == l.File {
				return p
			}
		}
	}
	return &Place{Dir: l.Dir, Name: l.Name, Secrets: everything("all that is in it"), Locks: msalLocks, Flocks: msalFlocks}
}
