package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A file is root's alone if nobody but root decides what is found at its path: the
// file, and every directory on the way from / to it, belong to root and are
// writable by nobody else; and nothing on the way is a symbolic link, which would
// be a word of whoever made it. What is mounted nosuid does not count: there, who
// a file belongs to may be the word of a user's own FUSE server, or of a disk that
// somebody brought along.
//
// Such a file is used through the descriptor that was looked at.

// OpenRootsAlone opens a regular file to be executed (O_PATH). Its error says what
// on the way is not root's alone.
func OpenRootsAlone(path string) (*os.File, error) {
	if path != filepath.Clean(path) || !filepath.IsAbs(path) || path == "/" {
		return nil, fmt.Errorf("%q is not the path of a program", path)
	}
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/: %w", err)
	}
	var w rootsWalk
	at := ""
	for name := range strings.SplitSeq(path[1:], "/") {
		err = w.look(dir, at+"/", unix.S_IFDIR)
		next := -1
		if err == nil {
			at += "/" + name
			if next, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
				err = fmt.Errorf("%s: %w", at, err)
			}
		}
		unix.Close(dir)
		if err != nil {
			return nil, err
		}
		dir = next
	}
	if err := w.look(dir, path, unix.S_IFREG); err != nil {
		unix.Close(dir)
		return nil, err
	}
	return os.NewFile(uintptr(dir), path), nil
}

// A rootsWalk goes along a path.
type rootsWalk struct{ mount uint64 } // the one it is on

// look is an error if a step of the path is not root's alone, or not of a kind.
func (w *rootsWalk) look(fd int, path string, kind uint16) error {
	var st unix.Statx_t
	// Not synchronized: a FUSE server that does not answer must not hold us up.
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// The mount comes first: what it says of files counts only then.
	if st.Mask&unix.STATX_MNT_ID == 0 || st.Mnt_id != w.mount {
		nosuid, err := mountedNosuid(fd, st.Mnt_id)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if nosuid {
			return fmt.Errorf("%s is on a filesystem mounted nosuid, where anybody may say that a file is root's", path)
		}
		w.mount = st.Mnt_id
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("%s is a symbolic link", path)
	case st.Mode&unix.S_IFMT != kind && kind == unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file", path)
	case st.Mode&unix.S_IFMT != kind:
		return fmt.Errorf("%s: %w", path, unix.ENOTDIR)
	case st.Uid != 0:
		return fmt.Errorf("%s belongs to uid %d", path, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s is writable by others than root (mode %04o)", path, st.Mode&0o7777)
	}
	return nil
}

// mountedNosuid looks at the mount that fd is on, whose ID that keeps from being
// used again. In a chroot the table does not have it, and the filesystem is asked.
func mountedNosuid(fd int, mount uint64) (bool, error) {
	table, err := Table()
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(table, func(e Entry) bool { return uint64(e.ID) == mount })
	if i >= 0 {
		return slices.Contains(strings.Split(table[i].Options, ","), "nosuid"), nil
	}
	var st unix.Statfs_t
	err = unix.Fstatfs(fd, &st)
	return st.Flags&unix.ST_NOSUID != 0, err
}

// openResolved is openRootsAlone of what a path leads to, symbolic links and all.
// It is for paths that we choose: then each step of where it ends is looked at.
func openResolved(path string) (*os.File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	return OpenRootsAlone(real)
}
