package apps

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	tokenfs "tokenfs/fs"
)

// phase is how far a redirection has come. Those that are not settled tell the
// next run what to do; see recover.go.
type phase string

const (
	linking   phase = "linking"   // copying; not redirected for good yet
	erasing   phase = "erasing"   // redirected; the copies on disk are going
	linked    phase = "linked"    // settled
	unlinking phase = "unlinking" // copying back; still redirected
	leaving   phase = "leaving"   // not redirected any more; tidying up
)

var phases = []phase{linking, erasing, linked, unlinking, leaving}

// A link is one place that is redirected.
type link struct {
	Dir   string   `json:"dir"`  // the symlink, or the directory of File
	Name  string   `json:"name"` // of the directory on the mount
	Mode  uint32   `json:"mode"` // of that directory
	Apps  []string `json:"apps"` // that asked for it
	Phase phase    `json:"phase"`

	File     string `json:"file,omitempty"` // what Variable stands for
	Variable string `json:"variable,omitempty"`

	Moved []string     `json:"moved,omitempty"` // what was put onto the mount
	Kept  []string     `json:"kept,omitempty"`  // what is linked out of it, to kept()
	Made  []string     `json:"made,omitempty"`  // directories that were made for it, outermost first
	Times [2]time.Time `json:"times"`           // of the directory as it was: access, modification
	Stays bool         `json:"stays,omitempty"` // the directory on the mount was there before
	Back  []string     `json:"back,omitempty"`  // what unlinking brings back to disk

	Place     string `json:"place,omitempty"`     // the table's, if it has another name on the mount
	Renewable bool   `json:"renewable,omitempty"` // by path, and its user says that a login brings it back
}

// place is the name of the table's place, if there is one.
func (l *link) place() string { return cmp.Or(l.Place, l.Name) }

// kept is where the directory is now.
func (l *link) kept() string { return keptOf(l.Dir) }

func keptOf(dir string) string { return dir + ".tokenfs" }

// state is apps.json.
type state struct {
	FormatVersion int     `json:"format_version"`
	Mountpoint    string  `json:"mountpoint"`
	Links         []*link `json:"links"`

	path, home string
}

// stateVersion is 2 since directories below the home are written relative to it:
// homes are moved, and shared by hosts.
const stateVersion = 2

// List is where the list of linked apps is: below the home, whatever variables
// this shell has, for what mounts at login does not know them. One that an
// earlier version has put where XDG_CONFIG_HOME says is found there.
func List(d Dirs) string {
	list := filepath.Join(d.Home, ".config/tokenfs/apps.json")
	if earlier := filepath.Join(d.Config, "tokenfs/apps.json"); earlier != list {
		if _, err := os.Lstat(list); errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Lstat(earlier); err == nil {
				return earlier
			}
		}
	}
	return list
}

// homed writes a path below the home relative to it, and absolute reads that.
func (s *state) homed(path string) string {
	if path == s.home {
		return "~"
	}
	if rest, ok := strings.CutPrefix(path, s.home+"/"); ok {
		return "~/" + rest
	}
	return path
}

func (s *state) absolute(path string) string {
	if path == "~" {
		return s.home
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return s.home + "/" + rest
	}
	return path
}

func loadState(path, home string) (*state, error) {
	s := &state{FormatVersion: stateVersion, path: path, home: home}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, badList(path, err)
	}
	defer f.Close()
	text, err := readList(f)
	var format struct {
		Version int `json:"format_version"`
	}
	if err == nil {
		err = json.Unmarshal(text, &format)
	}
	if err == nil && format.Version != 1 && format.Version != stateVersion {
		return nil, fmt.Errorf("list of linked apps %s: format %d is not known to this version of tokenfs: use the one that wrote it", path, format.Version)
	}
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	for _, l := range s.Links {
		if l != nil {
			l.Dir = s.absolute(l.Dir)
			for i := range l.Made {
				l.Made[i] = s.absolute(l.Made[i])
			}
		}
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, badList(path, err)
	}
	return s, nil
}

// save replaces the file by one write and one rename, and returns when that is
// on disk: what follows relies on it.
func (s *state) save() error {
	written := *s
	written.FormatVersion, written.Links = stateVersion, nil
	for _, l := range s.Links {
		w := *l
		w.Dir, w.Made = s.homed(l.Dir), slices.Clone(l.Made)
		for i := range w.Made {
			w.Made[i] = s.homed(w.Made[i])
		}
		written.Links = append(written.Links, &w)
	}
	text, err := json.MarshalIndent(written, "", "  ")
	if err == nil {
		err = replaceFile(s.path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the list of linked apps: %w", err)
	}
	return nil
}

// moveHome takes a list that an earlier version has put elsewhere to where it is
// looked for.
func (s *state) moveHome() error {
	before := s.path
	if s.path = filepath.Join(s.home, ".config/tokenfs/apps.json"); s.path == before || len(s.Links) == 0 {
		return nil
	}
	if err := s.save(); err != nil {
		return err
	}
	return os.Remove(before)
}

func (s *state) find(dir, file string) *link {
	i := slices.IndexFunc(s.Links, func(l *link) bool { return l.Dir == dir && l.File == file })
	if i < 0 {
		return nil
	}
	return s.Links[i]
}

func (s *state) drop(gone *link) {
	s.Links = slices.DeleteFunc(s.Links, func(l *link) bool { return l == gone })
}

// skeleton is what every session begins with.
func (s *state) skeleton() []tokenfs.Folder {
	folders := []tokenfs.Folder{}
	for _, l := range s.Links {
		if l.Phase == leaving {
			continue
		}
		f := tokenfs.Folder{Path: l.Name, Mode: l.Mode}
		if len(l.Kept) > 0 {
			f.Outside, f.Links = l.kept(), l.Kept
		}
		folders = append(folders, f)
	}
	return folders
}

// Skeleton is what a list of linked apps asks every session of the filesystem at
// mountpoint to begin with.
func Skeleton(list, home, mountpoint string) ([]tokenfs.Folder, error) {
	if list == "" {
		return nil, nil
	}
	s, err := loadState(list, home)
	if err != nil || s.Mountpoint != mountpoint {
		return nil, err
	}
	return s.skeleton(), nil
}

// lockState keeps other runs from changing anything. It ends with the process.
func lockState(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the list of linked apps: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "apps.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the list of linked apps: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("lock the list of linked apps: %w: another tokenfs link or unlink is at work, try again", err)
		}
	}
}

const lockPatience = 10 * time.Second

// replaceFile writes a file so that there is the old or the new one.
func replaceFile(name string, text []byte, mode os.FileMode) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
