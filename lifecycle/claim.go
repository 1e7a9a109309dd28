package lifecycle

import (
	"errors"
	"os"
	"time"
)

// endingTimeout is how long another filesystem that is ending may be in the way
// at the same place.
const endingTimeout = 5 * time.Second

// claim prepares the directory to mount on, and keeps others off it.
func (d *daemon) claim(path string) (dir *os.File, lock *mountLock, err error) {
	if err := checkPlace(path); err != nil {
		return nil, nil, err
	}
	if lock, err = lockMountpoint(path); err != nil {
		return nil, nil, err
	}
	if err = d.makeRoom(); err == nil {
		dir, err = openDirectory(path)
	}
	if err != nil {
		lock.unlock()
	}
	return dir, lock, err
}

// makeRoom clears dead mounts and gives way to a live one. One that is just
// ending may be neither for a moment.
func (d *daemon) makeRoom() error {
	path := d.opts.Mountpoint
	for deadline := time.Now().Add(endingTimeout); ; time.Sleep(5 * time.Millisecond) {
		cleared, err := clearDead(path)
		if err != nil {
			return err
		}
		if cleared > 0 {
			d.journal.logf("cleared a dead mount from %s: its daemon had ended without unmounting", path)
		}
		if _, found, err := mountedAt(path); err != nil || !found {
			return err
		}
		switch _, err = Query(path); {
		case err == nil:
			return ErrMounted
		case KindOf(err) != Dead:
			return err
		case errors.Is(err, errSilent) || time.Now().After(deadline):
			return faultf(Dead, "%s is mounted already and its daemon cannot be asked how it is: tokenfs unmount, then mount again (%w)", path, err)
		}
	}
}

// ClearDead takes away what a daemon left that was killed: its mount and its
// socket. Where there is nothing, or a daemon that lives, it does nothing.
func ClearDead(mountpoint string) (cleared int, err error) {
	_, found, err := mountedAt(mountpoint)
	if err != nil {
		return 0, err
	}
	if _, err := os.Lstat(socketPath(mountpoint)); !found && os.IsNotExist(err) {
		return 0, nil
	}
	lock, err := lockMountpoint(mountpoint)
	if err != nil {
		return 0, err
	}
	defer lock.unlock()
	if cleared, err = clearDead(mountpoint); err != nil {
		return cleared, err
	}
	if _, found, err = mountedAt(mountpoint); err != nil || found {
		return cleared, err
	}
	return cleared, removeSocket(mountpoint)
}
