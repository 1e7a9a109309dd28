package mount

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// maxLinks is where the kernel gives up, too.
const maxLinks = 40

// Within finds what name means inside the filesystem at a canonical
// mountpoint: its path relative to the mount, "." for all of it.
//
// Symbolic links on the way to the mount are followed, because apps are linked
// to it by directory; the last component of name is not, and inside the mount
// nothing is even looked at: what name means there is for the daemon to say,
// and nobody can make us wait.
func Within(mountpoint, name string) (string, error) {
	table, err := Table()
	if err != nil {
		return "", err
	}
	entry, found := Top(table, mountpoint)
	if !found || entry.Type != FSType {
		return "", NotMounted(mountpoint)
	}
	// The filesystem may be visible in more places, by bind mounts.
	doors := make(map[string]string)
	for _, e := range table {
		if e.Dev != entry.Dev {
			continue
		}
		if top, _ := Top(table, e.Point); top.ID == e.ID {
			doors[e.Point] = e.Root
		}
	}
	return within(doors, name)
}

// within walks name down from /; doors are the paths at which the filesystem
// begins, with what of it they show.
func within(doors map[string]string, name string) (string, error) {
	abs, err := absolute(name)
	if err != nil {
		return "", err
	}
	todo := strings.Split(abs, "/")
	at, inside, links := "/", false, 0 // at is resolved, and relative to the mount once inside
	outside := ""                      // the door we came through
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		switch {
		case next == "" || next == ".":
			continue
		case next == "..":
			if inside && at == doors[outside] {
				at, inside = outside, false
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, next)
		if inside {
			continue
		}
		if root, ok := doors[at]; ok {
			outside, at, inside = at, root, true
			continue
		}
		st, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fault.Errorf(fault.NoPath, "%s: %s does not exist", name, at)
		}
		if err != nil {
			return "", fault.Errorf(fault.NoPath, "%s: %w", name, err)
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := os.Readlink(at)
		if err != nil {
			return "", fault.Errorf(fault.NoPath, "%s: %w", name, err)
		}
		if len(todo) == 0 || strings.Join(todo, "") == "" {
			return "", fault.Errorf(fault.NoPath, "%s is a symbolic link to %s, and is not followed: name what it points to", name, target)
		}
		if links++; links > maxLinks {
			return "", fault.Errorf(fault.NoPath, "%s: too many symbolic links", name)
		}
		if filepath.IsAbs(target) {
			at = "/"
		} else {
			at = path.Dir(at)
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if !inside {
		return "", fault.Errorf(fault.NoPath, "%s is not in the filesystem: nothing was wiped", name)
	}
	if at = strings.TrimPrefix(at, "/"); at == "" {
		at = "."
	}
	return at, nil
}

// CheckRelative refuses whatever could mean something outside the mount. It makes no
// copy of p, which would stay on the heap.
func CheckRelative(p []byte) error {
	switch {
	case len(p) >= unix.PathMax:
		return fault.Errorf(fault.BadRequest, "path of %d bytes: the longest is %d", len(p), unix.PathMax-1)
	case string(p) == ".":
		return nil
	case bytes.IndexByte(p, 0) >= 0 || !cleanParts(p):
		return fault.Errorf(fault.BadRequest, "path %.80q: must be relative to the mount, without . and ..", p)
	}
	return nil
}

// cleanParts says whether each part between slashes is a name.
func cleanParts(p []byte) bool {
	for part := range bytes.SplitSeq(p, []byte("/")) {
		if len(part) == 0 || string(part) == "." || string(part) == ".." {
			return false
		}
	}
	return true
}
