package lifecycle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A mount is a FUSE filesystem made by this process.
type mount struct {
	path    string
	fd      int // /dev/fuse, for whoever serves it
	entry   mountEntry
	beneath *os.File // the directory that the mount hides; nil if that is a mount, too
	table   *os.File // of the namespace it is in; nil if that is this process's
}

// newMount mounts on the directory that was checked as dir.
//
// The directory stays 0500 whenever nothing is mounted, so that an app which
// runs at the wrong moment gets EACCES instead of leaving plaintext on it. It
// must be writable for the moment of mounting: fusermount3 mounts only on what
// its caller may write to.
//
// mountHere mounts on it, and returns /dev/fuse, or -1 if that is another process's.
func newMount(dir *os.File, path string, mountHere func(dir *os.File) (int, error)) (m *mount, err error) {
	before, err := mountTable()
	if err != nil {
		return nil, err
	}
	if err := dir.Chmod(0o700); err != nil {
		return nil, faultf(Mountpoint, "open the mountpoint for mounting: %w", err)
	}
	fd, err := mountHere(dir)
	if closing := dir.Chmod(0o500); err == nil && closing != nil {
		err = faultf(Mountpoint, "close the directory beneath the mount: %w", closing)
	}
	if err == nil {
		m = &mount{path: path, fd: fd, beneath: dir}
		m.entry, err = identify(before, path)
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd) // which kills the connection, wherever it got mounted
		}
		clearStray(dir, before) // a helper may have mounted and then failed
		return nil, err
	}
	return m, nil
}

// identify finds our new mount at path. Mounting went through a descriptor, so
// somebody who replaced the path meanwhile has it mounted elsewhere; then what
// is at path now is not ours, and must not be reported as the filesystem.
func identify(before []mountEntry, path string) (mountEntry, error) {
	table, err := mountTable()
	if err != nil {
		return mountEntry{}, err
	}
	top, found := topMount(table, path)
	if !found || !top.ours() || isIn(before, top) {
		return top, faultf(Mountpoint, "%s was replaced while it was being mounted: look who else writes to %s", path, filepath.Dir(path))
	}
	return top, nil
}

// clearStray unmounts what was mounted on dir after it had been moved away.
func clearStray(dir *os.File, before []mountEntry) {
	moved, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return
	}
	if top, found, err := mountedAt(moved); err == nil && found && top.ours() && !isIn(before, top) {
		detach(moved) // dead already: nothing depends on its success
	}
}

func isIn(table []mountEntry, e mountEntry) bool {
	return slices.ContainsFunc(table, e.same)
}

// here mounts for this process.
func (o mountOptions) here(dir *os.File) (int, error) {
	if !mountsItself() {
		return mountAsUser(dir, o)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, deviceFault(err)
	}
	// The magic link leads to the directory that was checked, whatever its path
	// means by now.
	if err := unix.Mount(o.source, magicLink(dir), fsType, o.flags, o.data(fd)); err != nil {
		unix.Close(fd)
		return -1, mountFault(err)
	}
	return fd, nil
}

func magicLink(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// data is what mount(2) is told besides flags.
func (o mountOptions) data(fd int) string {
	data := fmt.Sprintf("fd=%d,rootmode=40700,user_id=%d,group_id=%d,default_permissions,%s", fd, os.Geteuid(), os.Getegid(), maxRead)
	if o.all {
		data += ",allow_other"
	}
	return data
}

func mountFault(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return faultf(Unsupported, "mount: %w: this root has no CAP_SYS_ADMIN (a container?), without which nothing can be mounted: start it with --cap-add SYS_ADMIN --device /dev/fuse", err)
	case errors.Is(err, unix.ENODEV):
		return faultf(Unsupported, "mount: %w: this kernel has no FUSE: modprobe fuse", err)
	}
	return fmt.Errorf("mount: %w", err)
}

// checkDevice tells what is wrong with /dev/fuse before anything else is tried.
func checkDevice() error {
	if err := unix.Faccessat(unix.AT_FDCWD, "/dev/fuse", unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
		return deviceFault(err)
	}
	return nil
}

func deviceFault(err error) error {
	const consequence = "so no filesystem can be served"
	switch {
	case errors.Is(err, unix.ENOENT):
		return faultf(Unsupported, "there is no /dev/fuse, %s: modprobe fuse, or give the container --device /dev/fuse", consequence)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return faultf(Unsupported, "/dev/fuse: %w, %s: chmod 0666 /dev/fuse as root (distributions have it so)", err, consequence)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return faultf(Unsupported, "/dev/fuse: %w, this kernel has no FUSE, %s: modprobe fuse", err, consequence)
	}
	return faultf(Unsupported, "/dev/fuse: %w, %s", err, consequence)
}

// plaintextBeneath lists what somebody left in the directory before the mount
// covered it. It is not protected by anything.
func (m *mount) plaintextBeneath() ([]string, error) {
	if m.beneath == nil {
		return nil, nil
	}
	return entries(m.beneath, 16)
}

// mountTable is the one that the mount is in.
func (m *mount) mountTable() ([]mountEntry, error) {
	if m.table == nil {
		return mountTable()
	}
	return parseMountinfo(io.NewSectionReader(m.table, 0, 1<<62))
}

// close lets go of it without unmounting.
func (m *mount) close() {
	closeAll([]int{m.fd})
	m.table.Close()
	if m.beneath != nil {
		m.beneath.Close()
	}
}

// state says whether the mount is still there, and whether it is on top.
func (m *mount) state() (mounted, onTop bool, err error) {
	table, err := m.mountTable()
	if err != nil {
		return false, false, err
	}
	top, _ := topMount(table, m.path)
	return isIn(table, m.entry), top.ID == m.entry.ID, nil
}

// unmount takes the mount away from its path, whether or not it is in use.
// Whoever still has a file of it open keeps a handle that answers EIO.
func (m *mount) unmount() error {
	if m.table != nil {
		return m.table.Close() // it goes with its namespace, which this kept
	}
	mounted, onTop, err := m.state()
	if err != nil {
		return err
	}
	if !mounted {
		return nil
	}
	if !onTop {
		return fmt.Errorf("unmount %s: another filesystem is mounted over it: unmount that, then run tokenfs unmount again", m.path)
	}
	return detach(m.path)
}

// detach unmounts what is mounted at path, lazily.
func detach(path string) error {
	if mountsItself() {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return nil
	}
	return unmountAsUser(path)
}

// clearDead takes away mounts at path whose daemon is gone, and stops at one
// that is alive. The caller holds the mountLock.
func clearDead(path string) (cleared int, err error) {
	for {
		e, found, err := mountedAt(path)
		if err != nil || !found {
			return cleared, err
		}
		if err := e.refuseForeign(); err != nil {
			return cleared, err
		}
		if probe(path) != gone {
			return cleared, nil
		}
		if err := detach(path); err != nil {
			return cleared, err
		}
		cleared++
	}
}

// refuseForeign is an error unless the mount is a tokenfs of this user.
func (e mountEntry) refuseForeign() error {
	switch uid, _ := e.owner(); {
	case e.Type != fsType:
		return faultf(Mountpoint, "a %s filesystem is mounted on %s: choose another directory", e.Type, e.Point)
	case !e.ours():
		return faultf(Mountpoint, "the tokenfs on %s belongs to uid %d: choose another directory", e.Point, uid)
	}
	return nil
}

// abort fails whatever the kernel still waits for on this connection, see
// fuse.rst in the kernel's documentation. It needs fusectl, which systemd
// mounts; without it, those who wait go on waiting.
func (m *mount) abort() {
	_, minor, _ := strings.Cut(m.entry.Dev, ":")
	os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0)
}
