package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockTimeout is how long a mount waits for another one that is being set up
// or taken down at the same place.
const lockTimeout = 5 * time.Second

// A mountLock keeps other processes from changing what is mounted at a path:
// two that clear the same dead mount could otherwise take away what was newly
// mounted in between. It is a file beside the mountpoint, because a directory
// beneath a dead mount cannot be opened, and it exists only meanwhile: once
// mounted, the mount table tells.
type mountLock struct {
	parent *os.File
	name   string
	fd     int
}

func lockMountpoint(mountpoint string) (*mountLock, error) {
	if err := checkParent(mountpoint); err != nil {
		return nil, err
	}
	path := mountpoint + ".lock"
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, faultf(Mountpoint, "lock %s: %w", mountpoint, err)
	}
	l := &mountLock{parent: parent, name: filepath.Base(path)}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(5 * time.Millisecond) {
		locked, err := l.try(path)
		if locked {
			return l, nil
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("%s: another process has been mounting or unmounting there for %v: look for it with fuser %s", mountpoint, lockTimeout, path)
		}
		if err != nil {
			parent.Close()
			return nil, err
		}
	}
}

// try locks the file, unless somebody else has it, or it is not that file any
// more by the time it is locked.
func (l *mountLock) try(path string) (locked bool, err error) {
	l.fd, err = unix.Openat(int(l.parent.Fd()), l.name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false, faultf(Mountpoint, "lock %s: %w: its directory must be one that you may write to", path, err)
	}
	defer func() {
		if !locked {
			unix.Close(l.fd)
		}
	}()
	var opened, named unix.Stat_t
	if err := unix.Fstat(l.fd, &opened); err != nil {
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	if int(opened.Uid) != os.Geteuid() || opened.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, faultf(Mountpoint, "%s is in the way of the lock file and not a file of yours: choose another mountpoint", path)
	}
	if err := unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	err = unix.Fstatat(int(l.parent.Fd()), l.name, &named, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && named.Ino == opened.Ino && named.Dev == opened.Dev, nil
}

func (l *mountLock) unlock() {
	unix.Unlinkat(int(l.parent.Fd()), l.name, 0) // before others can lock it
	unix.Close(l.fd)
	l.parent.Close()
}
