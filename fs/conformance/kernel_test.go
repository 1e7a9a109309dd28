package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// omissions is what the kernel cannot do on one of the two sides: there is
// nothing to compare.
type omissions struct {
	direct bool // O_DIRECT: tmpfs has it since Linux 6.6
	xattrs bool // attributes of users: tmpfs has them since Linux 6.6
	shared bool // shared mappings: FUSE has them with direct I/O since Linux 6.6
	device bool // devices: the mount option nodev, on one side only
}

// omit tries what not every kernel has, and says what it leaves out.
func omit(t testing.TB, tested, reference string) (w omissions) {
	t.Helper()
	for _, p := range []struct {
		omit     *bool
		dir      string
		can      func(path string, fd int) error
		cannot   error
		before   [2]int // only then is it the kernel that cannot
		what, of string
	}{
		{&w.direct, reference, func(path string, _ int) error {
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
			unix.Close(fd)
			return err
		}, unix.EINVAL, [2]int{6, 6}, "O_DIRECT", "tmpfs"},
		{&w.xattrs, reference, func(path string, _ int) error {
			return unix.Setxattr(path, "user.a", []byte("a"), 0)
		}, unix.EOPNOTSUPP, [2]int{6, 6}, "attributes user.*", "tmpfs"},
		{&w.shared, tested, func(_ string, fd int) error {
			b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
			if err == nil {
				err = unix.Munmap(b)
			}
			return err
		}, unix.ENODEV, [2]int{6, 6}, "MAP_SHARED", "FUSE with direct I/O"},
	} {
		path := filepath.Join(p.dir, "what-the-kernel-can")
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		switch err := p.can(path, fd); {
		case err == nil:
		case err == p.cannot && !kernelAtLeast(p.before[0], p.before[1]):
			*p.omit = true
			t.Logf("NOT COMPARED: %s, which %s of this kernel refuses: %v", p.what, p.of, err)
		default:
			t.Errorf("%s on %s: %v", p.what, p.of, err)
		}
		unix.Close(fd)
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
	w.device = nodev(t, tested) != nodev(t, reference)
	if w.device {
		t.Logf("NOT COMPARED: devices, which only one of %s and %s has", tested, reference)
	}
	return w
}

func nodev(t testing.TB, dir string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Flags&unix.ST_NODEV != 0
}

// of replaces in o what is left out. The random numbers that follow stay the
// same, so that a seed means the same operations everywhere.
func (w omissions) of(o op) op {
	switch o.Kind {
	case "open", "openat2", "setfl":
		if w.direct {
			o.Flags &^= unix.O_DIRECT
		}
	case "mknod":
		if kind := o.Mode & unix.S_IFMT; w.device && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
			o.Mode = o.Mode&^unix.S_IFMT | unix.S_IFIFO
		}
	case "mmap":
		if w.shared {
			o.Flags = unix.MAP_PRIVATE
		}
	}
	if rest, ok := strings.CutPrefix(o.Name, "user."); ok && w.xattrs {
		o.Name = "trusted." + rest
	}
	return o
}

// mapFlags is how to map a file of the mount that is written to: shared where
// the kernel has that.
func mapFlags() int {
	if kernelAtLeast(6, 6) {
		return unix.MAP_SHARED
	}
	return unix.MAP_PRIVATE
}

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return a > major || a == major && b >= minor
}
