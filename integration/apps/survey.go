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
	s, err := loadState(List(e.Dirs))
	if err != nil {
		return r, err
	}
	all := slices.Clone(Table)
	for _, l := range s.Links {
		for _, name := range l.Apps {
			if strings.Contains(name, "/") {
				if a, err := byPath(name); err == nil {
					all = append(all, a)
				}
			}
		}
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
		dir := e.Dirs.Expand(p.Dir)
		place := PlaceReport{Path: filepath.Join(dir, p.File)}
		if _, err := os.Lstat(place.Path); err == nil {
			place.Exists = true
		}
		l := s.find(dir, p.File)
		if l != nil && slices.Contains(l.Apps, a.Name) {
			r.Halfway = r.Halfway || l.Phase != linked
			place.Linked = e.switched(l)
			if !place.Linked && l.Phase == linked {
				place.Broken = broken(l)
			}
		}
		switch {
		case r.Halfway:
		case place.Linked: // what has come to lie on disk since
			if strays := p.movedIn(l.onDisk()); len(strays) > 0 {
				costs, _ := p.costs(l.onDisk(), strays)
				r.Costs = append(r.Costs, costs...)
			}
		default:
			costs, _ := p.costs(dir, p.movedIn(dir))
			r.Costs = append(r.Costs, costs...)
		}
		r.Linked = r.Linked && place.Linked
		r.Installed = r.Installed || place.Exists && len(a.Programs) == 0
		r.Plaintext = append(r.Plaintext, e.plaintext(p, l, dir)...)
		r.Places = append(r.Places, place)
	}
	r.Run = e.advice(a, r)
	return r
}

func broken(l *link) string {
	if target, err := os.Readlink(l.Dir); err == nil {
		return "is a link to " + target
	}
	if _, err := os.Lstat(l.Dir); err != nil {
		return "the link was removed"
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

// plaintext lists the secret files of a place that are on disk: where the app
// looks for them, where its variable says, and where linking put the rest.
func (e *Engine) plaintext(p *Place, l *link, dir string) (found []string) {
	places := []string{dir, keptOf(dir)}
	if value := e.Getenv(p.Variable); value != "" && filepath.IsAbs(value) && p.File == "" && p.Names == "" {
		places = append(places, filepath.Clean(value))
	}
	for _, at := range places {
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

// marked says whether a file has secrets in it, as far as one can tell.
func (p *Place) marked(name string) bool {
	if len(p.Marks) == 0 {
		return true
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return true
	}
	defer clear(text)
	return slices.ContainsFunc(p.Marks, func(mark string) bool { return bytes.Contains(text, []byte(mark)) })
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
