// Package needs skips a test where the machine lacks what it needs, and says
// what that is and how to get it. So `go test ./...` passes anywhere. `make
// test` looks for all of this beforehand, and fails where something is missing.
//
// It knows machines; it must never know what is tested.
package needs

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// device is /dev/fuse: Documentation/admin-guide/devices.txt.
const major, minor = 10, 229

// FUSE skips a test that mounts.
func FUSE(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN with -short: it mounts")
	}
	if why := NoFUSE(); why != "" {
		t.Skip("NOT RUN: " + why)
	}
}

// NoFUSE says why this process cannot mount, or nothing.
func NoFUSE() string {
	if why := noDevice(); why != "" {
		return why
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Sprintf("%v: as root try: modprobe fuse; chmod 666 /dev/fuse", err)
	}
	f.Close()
	if os.Geteuid() != 0 {
		return noHelper()
	}
	return ""
}

// UsersFUSE skips a test in which an ordinary user mounts.
func UsersFUSE(t testing.TB) {
	t.Helper()
	FUSE(t)
	if st, err := os.Stat("/dev/fuse"); err == nil && st.Mode()&0o006 != 0o006 {
		t.Skip("NOT RUN: users cannot mount here: as root try: chmod 666 /dev/fuse")
	}
	if why := noHelper(); why != "" {
		t.Skip("NOT RUN: " + why)
	}
}

// Root skips a test that an ordinary user cannot run; to says what it needs
// root for.
func Root(t testing.TB, to string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root, to " + to)
	}
}

// Program skips a test without a program, which pkg of Debian's has.
func Program(t testing.TB, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("NOT RUN: no %s here: apt-get install %s", name, pkg)
	}
}

func noDevice() string {
	var st unix.Stat_t
	if err := unix.Stat("/dev/fuse", &st); err != nil {
		return fmt.Sprintf("/dev/fuse: %v: as root try: modprobe fuse, or pass the device into the container", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || unix.Major(st.Rdev) != major || unix.Minor(st.Rdev) != minor {
		return "/dev/fuse is not the fuse device"
	}
	return ""
}

func noHelper() string {
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return "users cannot mount here: apt-get install fuse3"
	}
	return ""
}
