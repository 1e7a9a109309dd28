package mount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/process"
)

// A mount is a FUSE filesystem made by this process.
type Mount struct {
	Path    string
	Fd      int // /dev/fuse, for whoever serves it
	Entry   Entry
	Beneath *os.File // the directory that the mount hides; nil if that is a mount, too
	Table   *os.File // of the namespace it is in; nil if that is this process's
}

// New mounts on the directory that was checked as dir.
//
// The directory stays 0500 whenever nothing is mounted, so that an app which
// runs at the wrong moment gets EACCES instead of leaving plaintext on it. It
// must be writable for the moment of mounting: fusermount3 mounts only on what
// its caller may write to.
//
// mountHere mounts on it, and returns /dev/fuse, or -1 if that is another process's.
func New(dir *os.File, path string, mountHere func(dir *os.File) (int, error)) (m *Mount, err error) {
	before, err := Table()
	if err != nil {
		return nil, err
	}
	if err := dir.Chmod(0o700); err != nil {
		return nil, fault.Errorf(fault.Mountpoint, "open the mountpoint for mounting: %w", err)
	}
	fd, err := mountHere(dir)
	if closing := dir.Chmod(0o500); err == nil && closing != nil {
		err = fault.Errorf(fault.Mountpoint, "close the directory beneath the mount: %w", closing)
	}
	if err == nil {
		m = &Mount{Path: path, Fd: fd, Beneath: dir}
		m.Entry, err = Identify(before, path)
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

// Identify finds our new mount at path. Mounting went through a descriptor, so
// somebody who replaced the path meanwhile has it mounted elsewhere; then what
// is at path now is not ours, and must not be reported as the filesystem.
func Identify(before []Entry, path string) (Entry, error) {
	table, err := Table()
	if err != nil {
		return Entry{}, err
	}
	top, found := Top(table, path)
	if !found || !top.Ours() || isIn(before, top) {
		return top, fault.Errorf(fault.Mountpoint, "%s was replaced while it was being mounted: look who else writes to %s", path, filepath.Dir(path))
	}
	return top, nil
}

// clearStray unmounts what was mounted on dir after it had been moved away.
func clearStray(dir *os.File, before []Entry) {
	moved, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return
	}
	if top, found, err := At(moved); err == nil && found && top.Ours() && !isIn(before, top) {
		Detach(moved) // dead already: nothing depends on its success
	}
}

func isIn(table []Entry, e Entry) bool {
	return slices.ContainsFunc(table, e.Same)
}

// Here mounts for this process.
func (o Options) Here(dir *os.File) (int, error) {
	if !process.MountsItself() {
		return mountAsUser(dir, o)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, deviceFault(err)
	}
	// The magic link leads to the directory that was checked, whatever its path
	// means by now.
	if err := unix.Mount(o.Source, magicLink(dir), FSType, o.Flags, o.data(fd)); err != nil {
		unix.Close(fd)
		return -1, mountFault(err)
	}
	return fd, nil
}

func magicLink(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// data is what mount(2) is told besides flags.
func (o Options) data(fd int) string {
	data := fmt.Sprintf("fd=%d,rootmode=40700,user_id=%d,group_id=%d,default_permissions,%s", fd, os.Geteuid(), os.Getegid(), maxRead)
	if o.all {
		data += ",allow_other"
	}
	return data
}

func mountFault(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fault.Errorf(fault.Unsupported, "mount: %w: this root has no CAP_SYS_ADMIN (a container?), without which nothing can be mounted: start it with --cap-add SYS_ADMIN --device /dev/fuse", err)
	case errors.Is(err, unix.ENODEV):
		return fault.Errorf(fault.Unsupported, "mount: %w: this kernel has no FUSE: modprobe fuse", err)
	}
	return fmt.Errorf("mount: %w", err)
}

// CheckDevice tells what is wrong with /dev/fuse before anything else is tried.
func CheckDevice() error {
	if err := unix.Faccessat(unix.AT_FDCWD, "/dev/fuse", unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
		return deviceFault(err)
	}
	return nil
}

func deviceFault(err error) error {
	const consequence = "so no filesystem can be served"
	switch {
	case errors.Is(err, unix.ENOENT):
		return fault.Errorf(fault.Unsupported, "there is no /dev/fuse, %s: modprobe fuse, or give the container --device /dev/fuse", consequence)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fault.Errorf(fault.Unsupported, "/dev/fuse: %w, %s: chmod 0666 /dev/fuse as root (distributions have it so)", err, consequence)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fault.Errorf(fault.Unsupported, "/dev/fuse: %w, this kernel has no FUSE, %s: modprobe fuse", err, consequence)
	}
	return fault.Errorf(fault.Unsupported, "/dev/fuse: %w, %s", err, consequence)
}

// PlaintextBeneath lists what somebody left in the directory before the mount
// covered it. It is not protected by anything.
func (m *Mount) PlaintextBeneath() ([]string, error) {
	if m.Beneath == nil {
		return nil, nil
	}
	return entries(m.Beneath, 16)
}

// mountTable is the one that the mount is in.
func (m *Mount) mountTable() ([]Entry, error) {
	if m.Table == nil {
		return Table()
	}
	return parseMountinfo(io.NewSectionReader(m.Table, 0, 1<<62))
}

// Close lets go of it without unmounting.
func (m *Mount) Close() {
	process.CloseAll([]int{m.Fd})
	m.Table.Close()
	if m.Beneath != nil {
		m.Beneath.Close()
	}
}

// State says whether the mount is still there, and whether it is on top.
func (m *Mount) State() (mounted, onTop bool, err error) {
	table, err := m.mountTable()
	if err != nil {
		return false, false, err
	}
	top, _ := Top(table, m.Path)
	return isIn(table, m.Entry), top.ID == m.Entry.ID, nil
}

// Unmount takes the mount away from its path, whether or not it is in use.
// Whoever still has a file of it open keeps a handle that answers EIO.
func (m *Mount) Unmount() error {
	if m.Table != nil {
		return m.Table.Close() // it goes with its namespace, which this kept
	}
	mounted, onTop, err := m.State()
	if err != nil {
		return err
	}
	if !mounted {
		return nil
	}
	if !onTop {
		return fmt.Errorf("unmount %s: another filesystem is mounted over it: unmount that, then run tokenfs unmount again", m.Path)
	}
	return Detach(m.Path)
}

// Detach unmounts what is mounted at path, lazily.
func Detach(path string) error {
	if process.MountsItself() {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return nil
	}
	return unmountAsUser(path)
}

// ClearDead takes away mounts at path whose daemon is gone, and stops at one
// that is alive. The caller holds the Lock.
func ClearDead(path string) (cleared int, err error) {
	for {
		e, found, err := At(path)
		if err != nil || !found {
			return cleared, err
		}
		if err := e.RefuseForeign(); err != nil {
			return cleared, err
		}
		if Probe(path) != Gone {
			return cleared, nil
		}
		if err := Detach(path); err != nil {
			return cleared, err
		}
		cleared++
	}
}

// RefuseForeign is an error unless the mount is a tokenfs of this user.
func (e Entry) RefuseForeign() error {
	switch uid, _ := e.Owner(); {
	case e.Type != FSType:
		return fault.Errorf(fault.Mountpoint, "a %s filesystem is mounted on %s: choose another directory", e.Type, e.Point)
	case !e.Ours():
		return fault.Errorf(fault.Mountpoint, "the tokenfs on %s belongs to uid %d: choose another directory", e.Point, uid)
	}
	return nil
}

// Abort fails whatever the kernel still waits for on this connection, see
// fuse.rst in the kernel's documentation. It needs fusectl, which systemd
// mounts; without it, those who wait go on waiting.
func (m *Mount) Abort() {
	_, minor, _ := strings.Cut(m.Entry.Dev, ":")
	os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0)
}
