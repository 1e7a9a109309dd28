package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

const (
	// holderTimeout is how long a process may take to set up or take down a
	// mount before those who wait for it give up. Its own limits, helperTimeout
	// and startTimeout among them, add up to less: who exceeds it is stopped or
	// stuck, and a login must not wait for it for ever.
	holderTimeout = 30 * time.Second
	// queueTimeout is how long to wait for any number of them.
	queueTimeout = 2 * time.Minute
)

// A Lock keeps other processes from changing what is mounted at a path:
// two that clear the same dead mount could otherwise take away what was newly
// mounted in between. It is a file beside the mountpoint, because a directory
// beneath a dead mount cannot be opened, and it exists only meanwhile: once
// mounted, the mount table tells.
type Lock struct {
	parent *os.File
	name   string
	fd     int
}

func LockPlace(mountpoint string) (*Lock, error) {
	if err := CheckParent(mountpoint); err != nil {
		return nil, err
	}
	path := mountpoint + ".lock"
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fault.Errorf(fault.Mountpoint, "lock %s: %w", mountpoint, err)
	}
	l := &Lock{parent: parent, name: filepath.Base(path)}
	q := queue{since: time.Now(), turn: time.Now()}
	for {
		held, err := l.try(path)
		if err == nil && held == nil {
			return l, nil
		}
		if err == nil {
			if err = q.wait(held, time.Now()); err != nil {
				err = fmt.Errorf("%s: %w %s", mountpoint, err, path)
			}
		}
		if err != nil {
			parent.Close()
			return nil, err
		}
		// Many that wait must leave the machine to the one that does not.
		time.Sleep(min(max(time.Since(q.since)/10, 2*time.Millisecond), 100*time.Millisecond))
	}
}

// A queue is what one process sees of others that have the lock in turn.
type queue struct {
	since, turn time.Time // waiting began; the turn of who has the lock now did
	held        unix.Stat_t
}

// wait is an error when it is time to give up. Each holder makes a file of its
// own, which is how one is told from the next.
func (q *queue) wait(held *unix.Stat_t, now time.Time) error {
	if held.Ino != q.held.Ino || held.Ctim != q.held.Ctim {
		q.held, q.turn = *held, now
	}
	switch {
	case now.Sub(q.turn) >= holderTimeout:
		return fmt.Errorf("another process has been mounting or unmounting there for %v: look for it with fuser", holderTimeout)
	case now.Sub(q.since) >= queueTimeout:
		return fmt.Errorf("other processes have been mounting or unmounting there for %v, one after the other: look for them with fuser", queueTimeout)
	}
	return nil
}

// try locks the file, or says which file it is that somebody else has. That may
// be one that has lost its name by now.
func (l *Lock) try(path string) (held *unix.Stat_t, err error) {
	l.fd, err = unix.Openat(int(l.parent.Fd()), l.name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fault.Errorf(fault.Mountpoint, "lock %s: %w: its directory must be one that you may write to", path, err)
	}
	defer func() {
		if held != nil || err != nil {
			unix.Close(l.fd)
		}
	}()
	var opened, named unix.Stat_t
	if err := unix.Fstat(l.fd, &opened); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if int(opened.Uid) != os.Geteuid() || opened.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.Errorf(fault.Mountpoint, "%s is in the way of the lock file and not a file of yours: choose another mountpoint", path)
	}
	if err := unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return &opened, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := unix.Fstatat(int(l.parent.Fd()), l.name, &named, unix.AT_SYMLINK_NOFOLLOW); err != nil || named.Ino != opened.Ino || named.Dev != opened.Dev {
		return &opened, nil // its turn is just over
	}
	return nil, nil
}

func (l *Lock) Unlock() {
	unix.Unlinkat(int(l.parent.Fd()), l.name, 0) // before others can lock it
	unix.Close(l.fd)
	l.parent.Close()
}
