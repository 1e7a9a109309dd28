package apps

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// ReportVersion changes when a field of Report changes its meaning or goes
// away; new fields do not change it.
const ReportVersion = 1

// A Report is what tokenfs apps says.
type Report struct {
	FormatVersion int         `json:"format_version"`
	Apps          []AppReport `json:"apps"`
	LinkedTo      string      `json:"linked_to,omitempty"` // another filesystem
}

// AppReport is what is known of one application here.
type AppReport struct {
	Name      string        `json:"name"`
	Title     string        `json:"title"`
	Installed bool          `json:"installed"`
	Linked    bool          `json:"linked"`                // all of its places
	Halfway   bool          `json:"interrupted,omitempty"` // the next link or unlink settles it
	Places    []PlaceReport `json:"places"`
	Plaintext []string      `json:"plaintext,omitempty"` // secret files on disk
	Costs     []Cost        `json:"costs,omitempty"`     // what linking would put at risk
	Suspects  []string      `json:"suspects,omitempty"`  // files that stay on disk and look like secrets
	Replaced  []string      `json:"replaced,omitempty"`  // settings that end with the session: link puts them back
	Unknown   []string      `json:"unknown,omitempty"`   // no known secrets, and end with the session
	Run       string        `json:"run,omitempty"`       // what to run next
}

// PlaceReport is about one directory, or one file.
type PlaceReport struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	Linked bool   `json:"linked"`
	Broken string `json:"broken,omitempty"` // why the redirection is not in effect
}

// Survey looks at every application of the table, and at those that were linked
// by path. It changes nothing.
func (e *Engine) Survey() (Report, error) {
	r := Report{FormatVersion: ReportVersion, Apps: []AppReport{}}
	s, err := loadState(List(e.Dirs), e.Dirs.Home)
	if err != nil {
		return r, err
	}
	all := slices.Clone(Table)
	for _, l := range s.Links {
		for _, name := range l.Apps {
			if strings.Contains(name, "/") {
				all = append(all, App{Name: name, Title: "the directory " + name, Places: []Place{*placeFor(l)}})
			}
		}
	}
	if len(s.Links) > 0 && s.Mountpoint != e.Mountpoint {
		r.LinkedTo = s.Mountpoint
	}
	for _, a := range all {
		r.Apps = append(r.Apps, e.survey(s, a))
	}
	return r, nil
}

func (e *Engine) survey(s *state, a App) AppReport {
	r := AppReport{Name: a.Name, Title: a.Title, Linked: true, Places: []PlaceReport{}}
	for _, program := range a.Programs {
		if _, err := exec.LookPath(program); err == nil {
			r.Installed = true
		}
	}
	for i := range a.Places {
		p := &a.Places[i]
		for n, dir := range e.surveyed(s, p) {
			e.surveyPlace(s, a, p, dir, n == 0, &r)
		}
		r.Plaintext = append(r.Plaintext, e.plaintextFiles(p)...)
	}
	r.Run = e.advice(a, r)
	return r
}

// surveyed are the directories of a place: first the one that the app uses here,
// then those that it uses where its variable is not set as it is here.
func (e *Engine) surveyed(s *state, p *Place) []string {
	var dirs []string
	if value := e.variableOf(p); filepath.IsAbs(value) && p.File == "" && p.Names == "" {
		dirs = append(dirs, value)
	}
	dirs = append(dirs, e.Dirs.Expand(p.Dir))
	for _, l := range s.Links {
		if l.place() == p.Name && l.File == p.File && !slices.Contains(dirs, l.Dir) {
			dirs = append(dirs, l.Dir)
		}
	}
	return dirs
}

func (e *Engine) surveyPlace(s *state, a App, p *Place, dir string, used bool, r *AppReport) {
	place := PlaceReport{Path: filepath.Join(dir, p.File)}
	if _, err := os.Lstat(place.Path); err == nil {
		place.Exists = true
	}
	l := s.find(dir, p.File)
	if l != nil && slices.Contains(l.Apps, a.Name) {
		r.Halfway = r.Halfway || l.Phase != linked
		place.Linked = e.switched(l)
		if l.Phase == linked {
			place.Broken = e.brokenAt(l)
		}
	}
	if place.Linked && l.File == "" && e.Mounted {
		for _, name := range e.replaced(l) {
			r.Replaced = append(r.Replaced, filepath.Join(dir, name))
		}
		for _, name := range e.unknown(p, l) {
			r.Unknown = append(r.Unknown, filepath.Join(dir, name))
		}
	}
	onDisk := dir
	if place.Linked {
		onDisk = l.onDisk()
	}
	if !e.onMount(onDisk) {
		r.Suspects = append(r.Suspects, p.suspects(onDisk)...)
	}
	switch {
	case r.Halfway:
	case place.Linked: // what has come to lie on disk since
		if strays := p.movedIn(l.onDisk()); len(strays) > 0 {
			costs, _ := p.costs(l.onDisk(), strays)
			r.Costs = append(r.Costs, costs...)
		}
	case used || len(p.movedIn(dir)) > 0:
		costs, _ := p.costs(dir, p.movedIn(dir))
		r.Costs = append(r.Costs, costs...)
	}
	r.Linked = r.Linked && (place.Linked || !used)
	r.Installed = r.Installed || place.Exists && len(a.Programs) == 0
	for _, name := range e.plaintext(p, l, dir) {
		if !slices.Contains(r.Plaintext, name) {
			r.Plaintext = append(r.Plaintext, name)
		}
	}
	if used || place.Exists || l != nil {
		r.Places = append(r.Places, place)
	}
}

// brokenAt follows a link to its end, and says why that is not reached.
func (e *Engine) brokenAt(l *link) string {
	if !e.switched(l) {
		return broken(l)
	}
	if l.File == "" && len(l.Kept) > 0 {
		if _, err := os.Stat(l.kept()); err != nil {
			return "leads to settings in " + e.Dirs.Contract(l.kept()) + ", which is gone"
		}
	}
	if _, err := os.Stat(e.target(l)); e.Mounted && err != nil {
		return "leads to " + e.target(l) + ", which is gone"
	}
	return ""
}

func broken(l *link) string {
	if target, err := os.Readlink(l.Dir); err == nil {
		return "is a link to " + target
	}
	if _, err := os.Lstat(l.Dir); err != nil {
		return "was removed"
	}
	return "was replaced by a file or directory on disk"
}

// advice is the command that makes things better.
func (e *Engine) advice(a App, r AppReport) string {
	name := ShellWord(a.Name)
	isBroken := slices.ContainsFunc(r.Places, func(p PlaceReport) bool { return p.Broken != "" })
	switch {
	case r.Halfway, isBroken:
		return "tokenfs link " + name
	case r.Linked && len(r.Plaintext) > 0 && len(r.Costs) == 0:
		return "tokenfs link " + name
	case len(r.Replaced) > 0:
		return "tokenfs link " + name
	case r.Linked && len(r.Plaintext) == 0:
		return ""
	case !r.Installed && len(r.Plaintext) == 0:
		return ""
	case len(r.Costs) > 0:
		return "tokenfs link --yes-lose " + name
	}
	return "tokenfs link " + name
}

// ShellWord writes a name as one that is pasted into a shell.
func ShellWord(name string) string {
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-+,:@%=", r)
	}
	if name != "" && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// movedIn are the entries of a directory that go onto the mount.
func (p *Place) movedIn(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if p.File == "" && p.moves(e.Name()) || p.File == e.Name() {
			names = append(names, e.Name())
		}
	}
	return names
}

// plaintext lists the secret files of a directory that are on disk: there, and
// where linking put what is kept.
func (e *Engine) plaintext(p *Place, l *link, dir string) (found []string) {
	for _, at := range []string{dir, keptOf(dir)} {
		if e.onMount(at) {
			continue
		}
		for _, name := range p.movedIn(at) {
			filepath.WalkDir(filepath.Join(at, name), func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() || p.isFlock(d.Name()) {
					return nil
				}
				if st, err := d.Info(); err == nil && st.Size() > 0 && !slices.Contains(found, path) && p.marked(path) {
					found = append(found, path)
				}
				return nil
			})
		}
	}
	return found
}

// plaintextFiles are those that a variable names one by one.
func (e *Engine) plaintextFiles(p *Place) (found []string) {
	if p.File == "" && p.Names == "" {
		return nil
	}
	for _, name := range filepath.SplitList(e.variableOf(p)) {
		filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || e.onMount(path) {
				return nil
			}
			if st, err := d.Info(); err == nil && st.Size() > 0 && p.marked(path) {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

// marked says whether a file has secrets in it, as far as one can tell.
func (p *Place) marked(name string) bool {
	if len(p.Marks) == 0 {
		return true
	}
	marked := true // unless it can be read, and says otherwise
	withContents(name, func(text []byte) {
		marked = slices.ContainsFunc(p.Marks, func(mark string) bool { return bytes.Contains(text, []byte(mark)) })
	})
	return marked
}

// Safe are the installed applications that nothing is lost by linking.
func (e *Engine) Safe() (all []App, skipped []string, err error) {
	r, err := e.Survey()
	if err != nil {
		return nil, nil, err
	}
	for _, report := range r.Apps {
		if !report.Installed && len(report.Plaintext) == 0 || report.Linked {
			continue
		}
		if len(report.Costs) > 0 {
			skipped = append(skipped, report.Name)
			continue
		}
		a, err := Find(report.Name)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, a)
	}
	return all, skipped, nil
}
