package apps

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Class says what the end of a session costs.
type Class int

const (
	Renewable     Class = iota // signing in again brings it back
	Irreplaceable              // nothing does, unless it is kept elsewhere
	Mixed                      // secrets and settings in one file
)

var classNames = [...]string{"renewable", "irreplaceable", "mixed"}

func (c Class) String() string { return classNames[c] }

func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c *Class) UnmarshalText(text []byte) error {
	i := slices.Index(classNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("%.40q is not a class of secrets", text)
	}
	*c = Class(i)
	return nil
}

// An App is what can be linked by one name.
type App struct {
	Name     string
	Title    string
	Programs []string // it is installed if one of them is found
	Login    string   // the command that brings back what a wipe took
	Places   []Place
	Settings []Setting
	Copies   []Copy
	Since    string // the versions that this holds for
	Quirks   []string
	Sources  []string
}

// A Place is a directory with secrets in it, or a single file.
type Place struct {
	Dir      string // see Dirs.Expand
	File     string // only this file of Dir is redirected, and Variable does it
	Variable string // moves the directory, or the file
	Names    string // the file of the directory that Variable names, if not the directory
	Name     string // of the directory on the mount

	Secrets []Secret
	// Marks tell a mixed file with secrets in it from one without.
	Marks []string
	// Keep is made on disk beforehand, so that what the application puts there
	// later does not end with the session. Directories end with a slash.
	Keep []string
	// Locks are files that lock by being there, with their owner's pid in them, if
	// anything; Flocks are there always, and locked with flock. Neither is moved.
	Locks  []string
	Flocks []string

	unknown bool // a directory that the table does not know
}

// A Secret is a file, or a directory with all that is in it.
type Secret struct {
	Pattern string // as of path.Match, relative to the place; the first that fits counts
	Class   Class
	What    string
}

// A Setting makes an application use its files at all, or not leave copies.
type Setting struct {
	Variable string
	Value    string
	Command  string // does the same for good
	Why      string

	// Where it can be set but in the environment, and what it is if nobody does;
	// nothing if that does no harm.
	File, Section, Key string
	Default            string
}

// A Copy is a file outside of all places in which an application leaves secrets,
// or what tells of them.
type Copy struct {
	Pattern string // as of filepath.Glob, expanded as a place's directory
	Mark    string // what such a file contains
	Why     string
	Remedy  string // besides removing it
}

// Dirs are the directories that places are in.
type Dirs struct {
	Home   string
	Config string // XDG_CONFIG_HOME
	Data   string // XDG_DATA_HOME
	Cache  string // XDG_CACHE_HOME
}

// FindDirs takes them from an environment, as the applications do.
func FindDirs(getenv func(string) string) (Dirs, error) {
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return Dirs{}, errHome
	}
	or := func(name, rest string) string {
		if dir := getenv(name); filepath.IsAbs(dir) {
			return filepath.Clean(dir)
		}
		return filepath.Join(home, rest)
	}
	return Dirs{filepath.Clean(home), or("XDG_CONFIG_HOME", ".config"), or("XDG_DATA_HOME", ".local/share"), or("XDG_CACHE_HOME", ".cache")}, nil
}

// Expand turns a directory of the table into a path.
func (d Dirs) Expand(dir string) string {
	for prefix, base := range map[string]string{"~": d.Home, "$CONFIG": d.Config, "$DATA": d.Data, "$CACHE": d.Cache} {
		if rest, ok := strings.CutPrefix(dir+"/", prefix+"/"); ok {
			return filepath.Join(base, rest)
		}
	}
	return dir
}

// Contract writes a path as people do.
func (d Dirs) Contract(name string) string {
	if rest, ok := strings.CutPrefix(name, d.Home+"/"); ok {
		return "~/" + rest
	}
	return name
}

// secret finds what a file of the place is, if it is secret.
func (p *Place) secret(rel string) (Secret, bool) {
	for _, s := range p.Secrets {
		for at := rel; at != "."; at = path.Dir(at) {
			if ok, _ := path.Match(s.Pattern, at); ok {
				return s, true
			}
		}
	}
	return Secret{}, false
}

// moves says whether an entry of the place's directory goes onto the mount.
func (p *Place) moves(name string) bool {
	for _, s := range p.Secrets {
		first, _, _ := strings.Cut(s.Pattern, "/")
		if ok, _ := path.Match(first, name); ok {
			return !p.isLock(name)
		}
	}
	return false
}

func (p *Place) isLock(name string) bool  { return matches(p.Locks, name) }
func (p *Place) isFlock(name string) bool { return matches(p.Flocks, name) }

func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// costly says that a logout would cost something sooner or later, whatever is
// there now: settings, or all there is.
func (p *Place) costly() bool {
	renewable := slices.ContainsFunc(p.Secrets, func(s Secret) bool { return s.Class == Renewable })
	mixed := slices.ContainsFunc(p.Secrets, func(s Secret) bool { return s.Class == Mixed })
	return mixed || !renewable
}

// Table is every application that is known by name.
var Table = concat(azure, git, kubernetes, clouds, tools)

func concat(families ...[]App) (all []App) {
	for _, f := range families {
		all = append(all, f...)
	}
	return all
}

// Find finds an application of the table by its name, or by that of its program;
// see Engine.Find for paths.
func Find(name string) (App, error) {
	for _, a := range Table {
		if a.Name == name {
			return a, nil
		}
	}
	for _, a := range Table {
		if slices.Contains(a.Programs, name) {
			return a, nil
		}
	}
	return App{}, unknownApp(name)
}

// tablePlace finds a place by its name on the mount.
func tablePlace(name string) *Place {
	for _, a := range Table {
		for i := range a.Places {
			if a.Places[i].Name == name {
				return &a.Places[i]
			}
		}
	}
	return nil
}

// everything in a directory is secret and comes back at login.
func everything(what string) []Secret { return []Secret{{"*", Renewable, what}} }

// The MSAL libraries have a lock file beside each cache. Those for Python and
// Node lock by its being there, those for Go and .NET with flock besides.
var (
	msalLocks  = []string{"*.lockfile"}
	msalFlocks = []string{"*.lock"}
)

// mountName is a directory's name on the mount, for one that has none in the
// table: readable, and no other directory's.
func mountName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	base := strings.TrimLeft(filepath.Base(dir), ".")
	base = strings.ToValidUTF8(base[:min(len(base), 100)], "")
	return base + "-" + hex.EncodeToString(sum[:4])
}
