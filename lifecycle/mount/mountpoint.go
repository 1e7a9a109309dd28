package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// DefaultMountpoint is where a user's filesystem is unless told otherwise:
// tokenfs in the user's runtime directory.
func DefaultMountpoint() (string, error) {
	return defaultMountpoint(os.Getenv("XDG_RUNTIME_DIR"), "/run/user", os.Geteuid())
}

func defaultMountpoint(runtimeDir, runUser string, uid int) (string, error) {
	dir, from := runtimeDir, "XDG_RUNTIME_DIR="+runtimeDir
	if dir == "" {
		dir = filepath.Join(runUser, fmt.Sprint(uid))
		from = "XDG_RUNTIME_DIR is not set, and " + dir
	}
	if !filepath.IsAbs(dir) {
		return "", fault.Errorf(fault.Mountpoint, "%s is not an absolute path: unset it, or name a MOUNTPOINT", from)
	}
	var st unix.Stat_t
	switch err := unix.Lstat(dir, &st); {
	case errors.Is(err, unix.ENOENT):
		return "", fault.Errorf(fault.Mountpoint, "%s does not exist: %slog in through PAM or systemd, which make it, name a directory of your own as MOUNTPOINT, or use tokenfs run", from, sudoHint(uid))
	case err != nil:
		return "", fault.Errorf(fault.Mountpoint, "%s: %w: name a directory of your own as MOUNTPOINT", from, err)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK && runtimeDir != "":
		// Some containers link it elsewhere; the link is as good as its owner.
		if int(st.Uid) != uid && st.Uid != 0 {
			return "", fault.Errorf(fault.Mountpoint, "%s is a symbolic link of uid %d: unset it, or name a MOUNTPOINT", from, st.Uid)
		}
		if err := unix.Stat(dir, &st); err != nil {
			return "", fault.Errorf(fault.Mountpoint, "%s: %w: unset it, or name a MOUNTPOINT", from, err)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", fault.Errorf(fault.Mountpoint, "%s is not a directory: name a directory of your own as MOUNTPOINT", from)
	}
	if int(st.Uid) != uid {
		return "", fault.Errorf(fault.Mountpoint, "%s belongs to uid %d, and this is uid %d (sudo and su can leave it so): unset it, or name a MOUNTPOINT", from, st.Uid, uid)
	}
	if st.Mode&0o777 != 0o700 {
		return "", fault.Errorf(fault.Mountpoint, "%s has mode %04o, and others must be kept out: chmod 0700 %s, or name a MOUNTPOINT", from, st.Mode&0o7777, dir)
	}
	return filepath.Join(dir, "tokenfs"), nil
}

// sudoHint is for root by way of sudo, who may mean the user's filesystem.
func sudoHint(uid int) string {
	if user := os.Getenv("SUDO_UID"); uid == 0 && user != "" && user != "0" {
		return fmt.Sprintf("this is root, and uid %s has a filesystem of its own, without sudo; else ", user)
	}
	return ""
}

// Canonical turns path into the form in which the mount table shows it:
// absolute, no symbolic link in its parents. It never touches the last
// component, so it cannot hang on a mount that nobody serves.
func Canonical(path string) (string, error) {
	abs, err := absolute(path)
	if err != nil {
		return "", err
	}
	for strings.HasSuffix(abs, "/") || strings.HasSuffix(abs, "/.") {
		if abs = strings.TrimSuffix(strings.TrimSuffix(abs, "."), "/"); abs == "" {
			return "", fault.Errorf(fault.Mountpoint, "/ cannot be a mountpoint: name a directory of your own")
		}
	}
	dir, base := abs[:strings.LastIndexByte(abs, '/')+1], abs[strings.LastIndexByte(abs, '/')+1:]
	if base == ".." {
		dir, base = abs, "."
	}
	parent, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.Errorf(fault.Mountpoint, "%s: its parent directory does not exist: mkdir -p -m 0700 %s", abs, strings.TrimSuffix(dir, "/"))
	}
	if err != nil {
		return "", fault.Errorf(fault.Mountpoint, "%s: parent directory: %w", abs, err)
	}
	canonical := filepath.Join(parent, base)
	if canonical == "/" {
		return "", fault.Errorf(fault.Mountpoint, "/ cannot be a mountpoint: name a directory of your own")
	}
	return canonical, nil
}

// absolute does not clean: "a/../b" is not "b" where a is a symbolic link. It
// asks the kernel for the working directory, because os.Getwd looks at files
// and could hang where nobody serves them.
func absolute(path string) (string, error) {
	if strings.IndexByte(path, 0) >= 0 || path == "" {
		return "", fault.Errorf(fault.BadRequest, "%q is not a path", path)
	}
	if filepath.IsAbs(path) {
		return path, nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return "", fmt.Errorf("%s: working directory: %w: give an absolute path", path, err)
	}
	cwd := string(buf[:n-1])
	if !filepath.IsAbs(cwd) { // the kernel's "(unreachable)"
		return "", fmt.Errorf("%s: the working directory is no longer mounted: give an absolute path", path)
	}
	return strings.TrimSuffix(cwd, "/") + "/" + path, nil
}

// CheckParent refuses a directory in which another user could replace the
// mountpoint or its socket.
func CheckParent(path string) error {
	parent := filepath.Dir(path)
	var st unix.Stat_t
	if err := unix.Stat(parent, &st); err != nil {
		return fault.Errorf(fault.Mountpoint, "%s: %w", parent, err)
	}
	if uid := os.Geteuid(); st.Uid != 0 && int(st.Uid) != uid {
		return fault.Errorf(fault.Mountpoint, "%s belongs to uid %d, who could replace what is in it: choose a directory of your own", parent, st.Uid)
	}
	if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fault.Errorf(fault.Mountpoint, "%s is writable for everyone, who could replace what is in it: chmod o-w %s, or choose another directory", parent, parent)
	}
	return nil
}

// CheckPlace refuses a mountpoint for a reason that no waiting will change. It
// comes before the lock, which needs a directory that can be written to.
func CheckPlace(path string) error {
	e, found, err := At(path)
	if err != nil {
		return err
	}
	if found {
		return e.RefuseForeign()
	}
	dir, err := OpenDirectory(path)
	if err == nil {
		return dir.Close()
	}
	if _, found, _ := At(path); found {
		return nil // by now; and it was the mount that was refused
	}
	return err
}

// OpenDirectory opens the directory a filesystem is to be mounted on, makes it
// if only it is missing, and checks through the descriptor that it is empty and
// ours. The descriptor keeps pointing beneath the mount.
func OpenDirectory(path string) (*os.File, error) {
	if err := CheckParent(path); err != nil {
		return nil, err
	}
	err := os.Mkdir(path, 0o500) // and it stays so if mounting fails
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fault.Errorf(fault.Mountpoint, "make mountpoint: %w: choose a directory that you may write to", err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil, fault.Errorf(fault.Mountpoint, "%s is a symbolic link, and what it points to could change: name the directory itself", path)
		}
		return nil, fault.Errorf(fault.Mountpoint, "%s is not a directory: remove it, or choose another path", path)
	case errors.Is(err, unix.EACCES):
		return nil, fault.Errorf(fault.Mountpoint, "%s: %w: it must be yours and have mode 0700", path, err)
	case err != nil:
		return nil, fault.Errorf(fault.Mountpoint, "open %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	if err := checkDirectory(dir); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

func checkDirectory(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return fault.Errorf(fault.Mountpoint, "stat %s: %w", dir.Name(), err)
	}
	if uid := os.Geteuid(); int(st.Uid) != uid {
		return fault.Errorf(fault.Mountpoint, "%s belongs to uid %d, and this is uid %d: choose a directory of your own", dir.Name(), st.Uid, uid)
	}
	names, err := entries(dir, 3)
	if err != nil {
		return fault.Errorf(fault.Mountpoint, "list %s: %w", dir.Name(), err)
	}
	if len(names) > 0 {
		return fault.Errorf(fault.Mountpoint, "%s is not empty (%q ...), and a mount would hide what is in it: move that away first", dir.Name(), names[0])
	}
	return nil
}

// entries lists up to n names of a directory, through a descriptor of its own
// because a listing has a position. A dot does not lead up onto a mount.
func entries(dir *os.File, n int) ([]string, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	listing := os.NewFile(uintptr(fd), dir.Name())
	defer listing.Close()
	names, err := listing.Readdirnames(n)
	if err == io.EOF {
		err = nil
	}
	return names, err
}
