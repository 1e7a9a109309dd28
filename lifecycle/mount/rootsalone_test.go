package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// A way to a program, with one step that is not root's alone.
func TestRootsAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to give files away")
	}
	const user = 65534
	for name, c := range map[string]struct {
		spoil func(top string) error
		want  string // in the error; "" for none
	}{
		"nothing":             {func(string) error { return nil }, ""},
		"a file of a user's":  {func(top string) error { return os.Chown(top+"/dir/program", user, 0) }, "/dir/program belongs to uid 65534"},
		"writable by a group": {func(top string) error { return os.Chmod(top+"/dir/program", 0o775) }, "/dir/program is writable by others"},
		"a directory of a user's": {func(top string) error { return os.Chown(top+"/dir", user, 0) },
			"/dir/ belongs to uid 65534"},
		"a directory where others write": {func(top string) error { return os.Chmod(top, 0o777|os.ModeSticky) },
			"is writable by others than root (mode 1777)"},
		"a link to a program of root's": {func(top string) error {
			return errors.Join(os.Rename(top+"/dir/program", top+"/dir/other"), os.Symlink("other", top+"/dir/program"))
		}, "/dir/program is a symbolic link"},
		"a link on the way": {func(top string) error {
			return errors.Join(os.Rename(top+"/dir", top+"/other"), os.Symlink("other", top+"/dir"))
		}, "/dir/ is a symbolic link"},
		"no file": {func(top string) error {
			return errors.Join(os.Remove(top+"/dir/program"), os.Mkdir(top+"/dir/program", 0o755))
		}, "is not a regular file"},
		"nothing there": {func(top string) error { return os.Remove(top + "/dir/program") }, "no such file"},
		"a filesystem where anybody says whose files are": {func(top string) error {
			err := unix.Mount("tmpfs", top+"/dir", "tmpfs", unix.MS_NOSUID, "mode=755")
			return errors.Join(err, os.WriteFile(top+"/dir/program", nil, 0o755))
		}, "mounted nosuid"},
		"a filesystem of root's": {func(top string) error {
			err := unix.Mount("tmpfs", top+"/dir", "tmpfs", 0, "mode=755")
			return errors.Join(err, os.WriteFile(top+"/dir/program", nil, 0o755))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			top := rootsDirectory(t)
			if err := errors.Join(os.Mkdir(top+"/dir", 0o755), os.WriteFile(top+"/dir/program", nil, 0o755)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(top+"/dir", unix.MNT_DETACH) })
			if err := c.spoil(top); errors.Is(err, unix.EPERM) {
				t.Skipf("NOT RUN: nothing can be mounted here: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			f, err := OpenRootsAlone(top + "/dir/program")
			if err == nil {
				defer f.Close()
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, which does not say %q", err, c.want)
			}
		})
	}
}

// rootsDirectory is one that root alone decides on.
func rootsDirectory(t *testing.T) string {
	t.Helper()
	if err := os.MkdirAll("/opt", 0o755); err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp("/opt", "tokenfs-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	return top
}

func TestRootsAloneWantsAPath(t *testing.T) {
	for _, path := range []string{"", "/", "sh", "./sh", "/bin/../bin/sh", "/usr//bin/sh", "/usr/bin/sh/"} {
		if f, err := OpenRootsAlone(path); err == nil {
			f.Close()
			t.Errorf("%q is root's alone", path)
		}
	}
}

// The helper is what root has put where distributions put it.
func TestFusermountIsRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to give files away")
	}
	top := rootsDirectory(t)
	places := HelperPlaces
	t.Cleanup(func() { HelperPlaces = places })
	HelperPlaces = []string{top + "/bin/fusermount3", top + "/other/fusermount3"}

	missing := func() {
		t.Helper()
		if f, err := fusermount(); err == nil || !strings.Contains(err.Error(), "there is no fusermount3") || fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%v, %v", f, err)
		}
	}
	unfit := func(why string) {
		t.Helper()
		if f, err := fusermount(); err == nil || !strings.Contains(err.Error(), why) || fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%v, %v, want %s", f, err, why)
		}
	}
	missing()
	t.Setenv("PATH", top)
	program := top + "/fusermount3"
	if err := errors.Join(os.WriteFile(program, nil, 0o755), os.Chmod(program, 0o755|os.ModeSetuid)); err != nil {
		t.Fatal(err)
	}
	missing() // in PATH is no place
	if err := errors.Join(os.Mkdir(top+"/bin", 0o755), os.Link(program, top+"/bin/fusermount3")); err != nil {
		t.Fatal(err)
	}
	found := func(at string) {
		t.Helper()
		f, err := fusermount()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Name() != at {
			t.Errorf("found %s, not %s", f.Name(), at)
		}
	}
	found(top + "/bin/fusermount3")
	if err := os.Chown(top+"/bin", 65534, 0); err != nil {
		t.Fatal(err)
	}
	unfit("/bin/ belongs to uid 65534")
	// A link of root's own, as in NixOS, is followed; where it leads is looked at.
	if err := errors.Join(os.Mkdir(top+"/real", 0o755), os.Link(program, top+"/real/fusermount3"), os.Symlink("real", top+"/other")); err != nil {
		t.Fatal(err)
	}
	found(top + "/real/fusermount3")
	if err := os.Chmod(program, 0o755); err != nil { // of all these links
		t.Fatal(err)
	}
	unfit("/bin/ belongs to uid 65534")
	if err := os.Chown(top+"/bin", 0, 0); err != nil {
		t.Fatal(err)
	}
	unfit("is not setuid root")
}

// What fusermount3 passes is looked at.
func TestOnlyTheDeviceIsTaken(t *testing.T) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	defer unix.Close(fd)
	if err := checkIsFuse(fd); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/dev/null", filepath.Join(t.TempDir(), "fuse")} {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := checkIsFuse(int(f.Fd())); err == nil {
			t.Errorf("%s is taken for /dev/fuse", path)
		}
	}
}
