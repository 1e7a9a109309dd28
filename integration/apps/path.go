package apps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// An app can be a path: any directory that an app has for its secrets alone.
// What is in there is nobody's to know, so a logout is taken to cost all of it,
// and directories that people have for other things are refused by name.

// Find finds an app of the table by its name, or makes one of a path. The path
// of an app of the table is that app.
func (e *Engine) Find(name string) (App, error) {
	if !strings.Contains(name, "/") {
		return Find(name)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return App{}, err
	}
	if a, ok := e.placedAt(abs); ok {
		e.Say("%s is %s", e.Dirs.Contract(abs), a.Name)
		return a, nil
	}
	s, err := loadState(List(e.Dirs), e.Dirs.Home)
	if err == nil && s.find(abs, "") != nil {
		return byPath(abs), nil // linked, in whatever state it is
	}
	if err := e.linkable(abs); err != nil {
		return App{}, err
	}
	return byPath(abs), nil
}

// NameOf is the name that an app is linked by: also a path that is not there any
// more can be unlinked.
func (e *Engine) NameOf(name string) (string, error) {
	if !strings.Contains(name, "/") {
		a, err := Find(name)
		return a.Name, err
	}
	abs, err := filepath.Abs(name)
	if a, ok := e.placedAt(abs); ok && err == nil {
		return a.Name, nil
	}
	return abs, err
}

// placedAt finds the first app that has this directory, or this file.
func (e *Engine) placedAt(abs string) (App, bool) {
	for _, a := range Table {
		for _, p := range a.Places {
			if at := filepath.Join(e.Dirs.Expand(p.Dir), p.File); abs == at || abs == keptOf(at) {
				return a, true
			}
		}
	}
	return App{}, false
}

// byPath is the app that has nothing but secrets in a directory.
func byPath(abs string) App {
	return App{Name: abs, Title: "the directory " + abs, Places: []Place{unknownPlace(abs, mountName(abs))}}
}

// unknownWhat is what is said of files of which nothing is known.
const unknownWhat = "nobody knows what it is"

func unknownPlace(dir, name string) Place {
	return Place{Dir: dir, Name: name, Secrets: []Secret{{"*", Irreplaceable, unknownWhat}}, Locks: msalLocks, Flocks: msalFlocks, unknown: true}
}

// linkable refuses what is no directory for an app's secrets alone.
func (e *Engine) linkable(abs string) error {
	shown := e.Dirs.Contract(abs)
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("%s does not exist: name an app that tokenfs apps lists, or a directory that there is", shown)
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(real, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: real, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return usagef("%s is a file, and apps replace links to files: name the directory it is in", shown)
	case int(st.Uid) != os.Geteuid():
		return usagef("%s belongs to uid %d: link directories of your own only", shown, st.Uid)
	case e.onMount(real):
		return usagef("%s is in the filesystem already", shown)
	}
	for _, path := range []string{abs, real} {
		if why := e.reserved(path); why != "" {
			return usagef("%s is not linked: %s", shown, why)
		}
	}
	return nil
}

// reserved says why a directory is not an app's own.
func (e *Engine) reserved(path string) string {
	if below(path, e.Dirs.Home) {
		return "it is, or contains, your home directory"
	}
	for _, dir := range []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/dev", "/proc", "/sys"} {
		if below(path, dir) || below(dir, path) && !below(e.Dirs.Home, path) {
			return "it is the system's"
		}
	}
	if filepath.Dir(path) == "/" {
		return "it is for many programs: name the directory of one in it"
	}
	for _, dir := range []string{".ssh", ".gnupg", ".password-store", ".local/share/keyrings", ".pki"} {
		if below(filepath.Join(e.Dirs.Home, dir), path) || below(path, filepath.Join(e.Dirs.Home, dir)) {
			return "no login brings back the keys in ~/" + dir
		}
	}
	for _, dir := range []string{e.Dirs.Config, e.Dirs.Data, e.Dirs.Cache, filepath.Join(e.Dirs.Home, ".config"), filepath.Join(e.Dirs.Home, ".local/share"), filepath.Join(e.Dirs.Home, ".local/state")} {
		if below(path, dir) {
			return "it is for many programs: name the directory of one in it"
		}
	}
	if own := filepath.Dir(List(e.Dirs)); below(path, own) || below(own, path) {
		return "tokenfs has its own files there"
	}
	if below(path, e.Mountpoint) || below(path, filepath.Dir(e.Mountpoint)) {
		return "the filesystem is mounted below it"
	}
	for _, a := range Table {
		for _, p := range a.Places {
			dir := e.Dirs.Expand(p.Dir)
			if p.File == "" && (below(path, dir) || below(dir, path) || below(keptOf(dir), path)) {
				return "it has to do with " + e.Dirs.Contract(dir) + ", which is linked by: tokenfs link " + a.Name
			}
			if p.File != "" && below(path, filepath.Join(dir, p.File)) {
				return "it contains " + e.Dirs.Contract(filepath.Join(dir, p.File)) + ", which is linked by: tokenfs link " + a.Name
			}
		}
	}
	return ""
}
