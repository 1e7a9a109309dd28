package apps

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	tokenfs "tokenfs/fs"
)

// What is in the list decides which files are overwritten and removed. So a
// list that this program would not have written is refused as a whole, before
// any of it is acted upon.

// listLimit is more than the filesystem takes for its skeleton.
const listLimit = 4 << 20

func (s *state) check() error {
	if len(s.Links) > 0 && !cleanPath(s.Mountpoint) {
		return fmt.Errorf("%.80q is not a mountpoint", s.Mountpoint)
	}
	seen := make(map[[2]string]bool)
	for i, l := range s.Links {
		if l == nil {
			return fmt.Errorf("entry %d is empty", i)
		}
		if err := l.check(); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		place := [2]string{l.Dir, l.File}
		if seen[place] {
			return fmt.Errorf("entry %d: %.80q is there twice", i, filepath.Join(l.Dir, l.File))
		}
		seen[place] = true
	}
	return tokenfs.CheckSkeleton(s.skeleton())
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (l *link) check() error {
	switch {
	case !cleanPath(l.Dir):
		return fmt.Errorf("%.80q is not the path of a directory", l.Dir)
	case !fileName(l.Name):
		return fmt.Errorf("%.80q is not the name of a directory on the mount", l.Name)
	case len(l.Apps) == 0:
		return fmt.Errorf("%.80q is of no app", l.Dir)
	case !slices.Contains(phases, l.Phase):
		return fmt.Errorf("%.80q is not how far a redirection can have come", l.Phase)
	case (l.File == "") != (l.Variable == ""), l.Variable != "" && !variableName.MatchString(l.Variable):
		return fmt.Errorf("file %.80q and variable %.80q do not go together", l.File, l.Variable)
	}
	for _, name := range l.Apps {
		if name == "" || strings.Contains(name, "\x00") {
			return fmt.Errorf("%.80q is not the name of an app", name)
		}
	}
	for _, name := range slices.Concat(l.Moved, l.Kept, l.Back) {
		if !fileName(name) {
			return fmt.Errorf("%.80q is not the name of a file in %.80q", name, l.Dir)
		}
		if l.File != "" && name != l.File {
			return fmt.Errorf("%.80q is not the file of the variable %s", name, l.Variable)
		}
	}
	for _, made := range l.Made {
		if !cleanPath(made) || !below(l.Dir, made) && !below(made, l.Dir) {
			return fmt.Errorf("%.80q was not made for %.80q", made, l.Dir)
		}
	}
	return nil
}

// cleanPath says whether a path is one that this program writes down.
func cleanPath(name string) bool {
	return filepath.IsAbs(name) && name == filepath.Clean(name) && name != "/" && !strings.Contains(name, "\x00") && len(name) < unix.PathMax
}

// fileName says whether a name is that of an entry of a directory.
func fileName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00") && len(name) <= unix.NAME_MAX
}

// below says whether a path is dir, or lies below it.
func below(dir, name string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// checkFiles refuses redirected files that the table does not know for this
// home: linking and unlinking overwrites them where they are.
func (e *Engine) checkFiles(s *state) error {
	for _, l := range s.Links {
		if l.File != "" && !slices.ContainsFunc(Table, func(a App) bool {
			return slices.ContainsFunc(a.Places, func(p Place) bool {
				return p.File == l.File && p.Variable == l.Variable && e.Dirs.Expand(p.Dir) == l.Dir
			})
		}) {
			return badList(s.path, fmt.Errorf("no app has the file %.80q", filepath.Join(l.Dir, l.File)))
		}
	}
	return nil
}

// readList reads a list that nobody else could have written.
func readList(f *os.File) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("it belongs to uid %d, and this is uid %d", st.Uid, os.Geteuid())
	case st.Mode&0o002 != 0:
		return nil, errors.New("everybody may write to it")
	}
	text, err := io.ReadAll(io.LimitReader(f, listLimit+1))
	if err == nil && len(text) > listLimit {
		err = errors.New("it is too long")
	}
	return text, err
}

func badList(path string, why error) error {
	return fmt.Errorf("list of linked apps %s: %w: move it away, and link again", path, why)
}
