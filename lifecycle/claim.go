package lifecycle

import (
	"errors"
	"os"
	"time"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
)

// endingTimeout is how long another filesystem that is ending may be in the way
// at the same place.
const endingTimeout = 5 * time.Second

// claim prepares the directory to mount on, and keeps others off it.
func (d *daemon) claim(path string) (dir *os.File, lock *mount.Lock, err error) {
	if err := mount.CheckPlace(path); err != nil {
		return nil, nil, err
	}
	if lock, err = mount.LockPlace(path); err != nil {
		return nil, nil, err
	}
	if err = d.makeRoom(); err == nil {
		dir, err = mount.OpenDirectory(path)
	}
	if err != nil {
		lock.Unlock()
	}
	return dir, lock, err
}

// makeRoom clears dead mounts and gives way to a live one. One that is just
// ending may be neither for a moment.
func (d *daemon) makeRoom() error {
	path := d.opts.Mountpoint
	for deadline := time.Now().Add(endingTimeout); ; time.Sleep(5 * time.Millisecond) {
		cleared, err := mount.ClearDead(path)
		if err != nil {
			return err
		}
		if cleared > 0 {
			d.journal.logf("cleared a dead mount from %s: its daemon had ended without unmounting", path)
		}
		if _, found, err := mount.At(path); err != nil || !found {
			return err
		}
		switch _, err = Query(path); {
		case err == nil:
			return ErrMounted
		case fault.KindOf(err) != fault.Dead:
			return err
		case errors.Is(err, errSilent) || time.Now().After(deadline):
			return fault.Errorf(fault.Dead, "%s is mounted already and its daemon cannot be asked how it is: tokenfs unmount, then mount again (%w)", path, err)
		}
	}
}

// ClearDead takes away what a daemon left that was killed: its mount and its
// socket. Where there is nothing, or a daemon that lives, it does nothing.
func ClearDead(mountpoint string) (cleared int, err error) {
	_, found, err := mount.At(mountpoint)
	if err != nil {
		return 0, err
	}
	if _, err := os.Lstat(socketPath(mountpoint)); !found && os.IsNotExist(err) {
		return 0, nil
	}
	lock, err := mount.LockPlace(mountpoint)
	if err != nil {
		return 0, err
	}
	defer lock.Unlock()
	if cleared, err = mount.ClearDead(mountpoint); err != nil {
		return cleared, err
	}
	if _, found, err = mount.At(mountpoint); err != nil || found {
		return cleared, err
	}
	return cleared, removeSocket(mountpoint)
}
