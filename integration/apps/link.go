package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Cost is a file that the end of the session takes and no login brings back.
type Cost struct {
	Path  string `json:"path"`
	Class Class  `json:"class"`
	What  string `json:"what"`
}

// CostError is a refusal to put at risk what cannot be had again.
type CostError struct {
	Costs []Cost
	Now   bool // rather than at the end of the session
}

func (c *CostError) Error() string { return strings.Join(c.Lines(), "\n") }

// Lines are how it is printed: a name with a line break in it has one line, too.
func (c *CostError) Lines() (lines []string) {
	if c.Now {
		lines = append(lines, "refused, because this would end, and no login bring back:")
	} else {
		lines = append(lines, "refused, because the next logout or wipe would take, and no login bring back:")
	}
	lines = append(lines, inventoryLines(c.Costs)...)
	last := "keep copies elsewhere, then try again with --yes-lose"
	if !c.Now && slices.ContainsFunc(c.Costs, func(c Cost) bool { return c.What == unknownWhat }) {
		last += ", or with --renewable if a login brings back all of it"
	}
	return append(lines, last)
}

// shownFiles are as many as are named of a kind.
const shownFiles = 5

// inventoryLines name files by what they are.
func inventoryLines(files []Cost) (lines []string) {
	type kind struct {
		Class
		what string
	}
	seen := make(map[kind]int)
	for _, f := range files {
		k := kind{f.Class, f.What}
		if seen[k]++; seen[k] <= shownFiles {
			lines = append(lines, fmt.Sprintf("  %s: %s (%s)", f.Path, f.What, f.Class))
		}
	}
	for k, n := range seen {
		if n > shownFiles {
			lines = append(lines, fmt.Sprintf("  and %d more: %s (%s)", n-shownFiles, k.what, k.Class))
		}
	}
	return lines
}

// Link redirects an application. It changes nothing unless all of it can be
// done; a run that is interrupted is taken back or completed by the next.
func (e *Engine) Link(a App, yesLose bool) (err error) {
	s, release, err := e.begin()
	if err != nil {
		return err
	}
	defer release()
	var releases []func()
	letGo := func() {
		for _, release := range releases {
			release()
		}
		releases = nil
	}
	defer letGo()
	todo, mended, costs, err := e.planApp(s, a)
	if err != nil {
		return err
	}
	if e.DryRun {
		err = e.foretell(a, todo, mended)
	}
	if err == nil && len(costs) > 0 && !yesLose {
		err = &CostError{Costs: costs}
	}
	if err == nil && !e.DryRun {
		err = e.fits(todo)
	}
	if err != nil || e.DryRun {
		return err
	}
	for _, l := range mended {
		if err := e.mend(s, l); err != nil {
			return err
		}
	}
	if len(todo) == 0 {
		e.Result("%s is linked already", a.Name)
		return e.joined(s)
	}
	for _, l := range todo {
		if l.File == "" {
			place := placeFor(l)
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

// planApp finds what is to be linked, what is linked and may have to be mended,
// and what both put at risk.
func (e *Engine) planApp(s *state, a App) (todo, mended []*link, costs []Cost, err error) {
	for i := range a.Places {
		p := &a.Places[i]
		dirs, err := e.dirsOf(s, a, p)
		if err != nil {
			return nil, nil, nil, err
		}
		for _, dir := range dirs {
			l, risks, err := e.plan(s, a, p, dir, todo)
			if err != nil {
				return nil, nil, nil, err
			}
			if costs = append(costs, risks...); l != nil {
				todo = append(todo, l)
			}
		}
	}
	for _, l := range s.Links {
		if slices.Contains(l.Apps, a.Name) {
			mended = append(mended, l)
		}
	}
	return todo, mended, costs, nil
}

// joined ends what changed nothing but the list.
func (e *Engine) joined(s *state) error {
	return errors.Join(e.save(s), e.furnish(s), e.writeVariables(s))
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
			if err := e.copyTree(filepath.Join(l.Dir, name), filepath.Join(e.target(l), name)); err != nil {
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
func (l *link) fromNothing() bool { return l.File == "" && slices.Contains(l.Made, l.Dir) }

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
			if err := e.copyTree(filepath.Join(dir, name), filepath.Join(e.target(l), name)); err != nil {
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
		if _, err := e.erase(filepath.Join(dir, name)); err != nil {
			return err
		}
		e.at("erased")
	}
	if err := placeFor(l).removeStale(dir); err != nil {
		return err
	}
	l.Phase = linked
	return e.save(s)
}

// giveUp takes everything back after a failure.
func (e *Engine) giveUp(s *state, todo []*link, why error) error {
	defer e.undisturbed()()
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
	for _, s := range a.Settings {
		if value, _ := e.effective(s); s.Command != "" && value != "" && !sameValue(value, s.Value) {
			e.Say("run %s: %s", s.Command, s.Why)
		}
	}
	for _, l := range todo {
		if files := placeFor(l).suspects(l.onDisk()); len(files) > 0 {
			e.Say("warning: %s may hold secrets that are not known of %s, and stay on disk", someOf(files), a.Name)
		}
		from := e.Dirs.Contract(filepath.Join(l.Dir, l.File))
		if l.File != "" {
			e.Result("linked %s by %s, which is set in %s", from, l.Variable, e.Dirs.Contract(e.variablesFile()))
			if e.Getenv(l.Variable) == "" {
				e.Say(`it is not set here, nor in shells opened by ssh: there run eval "$(tokenfs env %s)"`, a.Name)
			}
		} else {
			e.Result("linked %s", from)
		}
		if len(l.Moved) > 0 {
			e.Say("moved in %s: the last logout ends that; the copies on disk are overwritten and removed, but %s: revoke the old tokens if that matters",
				someOf(l.Moved), erasure(filepath.Dir(l.Dir)))
		}
	}
}

// someOf names the first of many.
func someOf(names []string) string {
	if n := len(names) - shownFiles; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shownFiles], ", "), n)
	}
	return strings.Join(names, ", ")
}

// placeFor finds what the table says of a linked place.
func placeFor(l *link) *Place {
	if p := tablePlace(l.place()); p != nil && p.File == l.File {
		return p
	}
	p := unknownPlace(l.Dir, l.Name)
	if l.Renewable {
		p.Secrets = everything("what was linked as renewable")
	}
	return &p
}
