package apps

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tokenfs "tokenfs/fs"
)

// A desk is a home directory, and a plain directory in the place of the mount.
type desk struct {
	*testing.T
	*Engine
	said []string
}

func newDesk(t *testing.T, root string) *desk {
	t.Helper()
	d := &desk{T: t}
	dirs, err := FindDirs(func(name string) string {
		if name == "HOME" {
			return filepath.Join(root, "home")
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Engine = &Engine{
		Dirs: dirs, Mountpoint: filepath.Join(root, "mnt"), Mounted: true,
		SetSkeleton: func(folders []tokenfs.Folder) error { return lay(filepath.Join(root, "mnt"), folders) },
		Wipe:        func(path string) error { return os.RemoveAll(filepath.Join(root, "mnt", path)) },
		Getenv:      func(string) string { return "" },
		Say:         func(format string, args ...any) { d.said = append(d.said, fmt.Sprintf(format, args...)) },
	}
	d.Result = d.Say
	for _, dir := range []string{dirs.Home, d.Mountpoint} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// lay does what the filesystem does with a skeleton.
func lay(mnt string, folders []tokenfs.Folder) error {
	if err := tokenfs.CheckSkeleton(folders); err != nil {
		return err
	}
	for _, f := range folders {
		dir := filepath.Join(mnt, f.Path)
		if err := os.MkdirAll(dir, os.FileMode(f.Mode)); err != nil {
			return err
		}
		for _, name := range f.Links {
			if err := os.Symlink(filepath.Join(f.Outside, name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
				return err
			}
		}
	}
	return nil
}

// wipe empties the mount, and lays the skeleton as the filesystem would.
func (d *desk) wipe() {
	d.Helper()
	entries, err := os.ReadDir(d.Mountpoint)
	for _, e := range entries {
		if err == nil {
			err = os.RemoveAll(filepath.Join(d.Mountpoint, e.Name()))
		}
	}
	s, err2 := loadState(List(d.Dirs), d.Dirs.Home)
	if err != nil || err2 != nil {
		d.Fatal(err, err2)
	}
	if err := d.SetSkeleton(s.skeleton()); err != nil {
		d.Fatal(err)
	}
}

func (d *desk) home(rel string) string { return filepath.Join(d.Dirs.Home, rel) }

var longAgo = time.Date(2024, 2, 29, 12, 34, 56, 789, time.UTC)

// write makes files with their directories; a name that ends with a slash is a
// directory. Everything is dated back.
func (d *desk) write(files map[string]string) {
	d.Helper()
	for _, rel := range sortedKeys(files) {
		name := d.home(rel)
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			d.Fatal(err)
		}
		if strings.HasSuffix(rel, "/") {
			if err := os.MkdirAll(name, 0o750); err != nil {
				d.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(name, []byte(files[rel]), 0o640); err != nil {
			d.Fatal(err)
		}
	}
	filepath.WalkDir(d.Dirs.Home, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type()&fs.ModeSymlink == 0 {
			os.Chtimes(p, longAgo.Add(time.Hour), longAgo)
		}
		return err
	})
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// snapshot says of everything in the home directory what a user could see,
// but for the list of linked apps.
func (d *desk) snapshot() map[string]string {
	d.Helper()
	seen := make(map[string]string)
	err := filepath.WalkDir(d.Dirs.Home, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(d.Dirs.Home, p)
		if rel == ".config/tokenfs" {
			return fs.SkipDir
		}
		if rel == "." || rel == ".config" {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		what := st.Mode().String()
		switch {
		case st.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			what = "-> " + target
		case st.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil && !os.IsPermission(err) { // as kubectl's lock file is
				return err
			}
			what += fmt.Sprintf(" %x %v", sha256.Sum256(b), st.ModTime())
		case st.IsDir():
			what += fmt.Sprintf(" %v", st.ModTime())
		}
		seen[rel] = what
		return nil
	})
	if err != nil {
		d.Fatal(err)
	}
	return seen
}

// same compares snapshots, without what is in except.
func (d *desk) same(when string, got, want map[string]string, except ...string) {
	d.Helper()
	for _, name := range sortedKeys(want) {
		if got[name] != want[name] && !slices.Contains(except, name) {
			d.Errorf("%s: %s was %s and is %q", when, name, want[name], got[name])
		}
	}
	for _, name := range sortedKeys(got) {
		if _, ok := want[name]; !ok && !slices.Contains(except, name) {
			d.Errorf("%s: %s is there, and was not: %s", when, name, got[name])
		}
	}
}

func (d *desk) read(name string) string {
	d.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		d.Error(err)
	}
	return string(b)
}

// onDisk looks for a text in every file of the home directory, without
// following links.
func (d *desk) onDisk(text string) (found []string) {
	filepath.WalkDir(d.Dirs.Home, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), text) {
				found = append(found, p)
			}
		}
		return nil
	})
	return found
}

func (d *desk) app(name string) App {
	d.Helper()
	a, err := d.Find(name)
	if err != nil {
		d.Fatal(err)
	}
	return a
}

func (d *desk) heard(text string) bool {
	return slices.ContainsFunc(d.said, func(s string) bool { return strings.Contains(s, text) })
}

// memoryDir is a directory where an fsync costs nothing, if there is one.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "apps-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
