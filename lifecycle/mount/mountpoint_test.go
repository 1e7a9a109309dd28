package mount

import (
	"os"
	"path/filepath"
	"testing"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/fault/faulttest"
)

// privateDir is a directory that only its owner enters, like a runtime
// directory.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mkdir(t *testing.T, mode os.FileMode, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

func symlink(t *testing.T, target, link string) string {
	t.Helper()
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func TestDefaultMountpoint(t *testing.T) {
	dir := privateDir(t)
	me := os.Geteuid()
	runtime := mkdir(t, 0o700, dir, "runtime")
	open := mkdir(t, 0o755, dir, "open")
	link := symlink(t, runtime, filepath.Join(dir, "link"))
	runUser := mkdir(t, 0o755, dir, "user")
	const someone = 12345
	mkdir(t, 0o700, runUser, "12345")

	for name, path := range map[string]string{"directory": runtime, "link": link} {
		got, err := defaultMountpoint(path, runUser, me)
		if want := path + "/tokenfs"; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	for name, c := range map[string]struct {
		runtime string
		uid     int
		words   []string
	}{
		"unset, and no login session": {"", 54321, []string{"not set", runUser + "/54321 does not exist", "MOUNTPOINT"}},
		"unset, and another's":        {"", someone, []string{"belongs to uid", "MOUNTPOINT"}},
		"open to others":              {open, me, []string{"mode 0755", "chmod 0700"}},
		"another's":                   {runtime, someone, []string{"belongs to uid", "sudo"}},
		"missing":                     {dir + "/missing", me, []string{"does not exist"}},
		"relative":                    {"run", me, []string{"absolute"}},
	} {
		_, err := defaultMountpoint(c.runtime, runUser, c.uid)
		t.Run(name, func(t *testing.T) { faulttest.Want(t, err, fault.Mountpoint, c.words...) })
	}

	own := mkdir(t, 0o700, dir, "own")
	mkdir(t, 0o700, own, itoa(me))
	if got, err := defaultMountpoint("", own, me); err != nil || got != filepath.Join(own, itoa(me), "tokenfs") {
		t.Errorf("unset: %q, %v", got, err)
	}
}

func TestCanonical(t *testing.T) {
	dir := privateDir(t)
	real := mkdir(t, 0o700, dir, "real")
	symlink(t, "real", dir+"/link")
	symlink(t, "/nowhere", real+"/last")
	t.Chdir(real)
	for in, want := range map[string]string{
		real + "/x":              real + "/x",
		dir + "/link/x":          real + "/x",
		dir + "/link/../real/x/": real + "/x",
		real + "/x/.":            real + "/x",
		real + "/last":           real + "/last", // never followed
		"x":                      real + "/x",
		"..":                     dir,
		".":                      real,
	} {
		if got, err := Canonical(in); err != nil || got != want {
			t.Errorf("Canonical(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for in, kind := range map[string]fault.Kind{"/": fault.Mountpoint, "//.": fault.Mountpoint, dir + "/missing/x": fault.Mountpoint, "": fault.BadRequest, "a\x00b": fault.BadRequest} {
		if got, err := Canonical(in); err == nil || fault.KindOf(err) != kind {
			t.Errorf("Canonical(%q) = %q, %v, want an error of kind %s", in, got, err, kind)
		}
	}
}

func TestOpenDirectory(t *testing.T) {
	dir := privateDir(t)
	f, err := OpenDirectory(dir + "/made")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if st, err := os.Lstat(dir + "/made"); err != nil || st.Mode() != os.ModeDir|0o500 {
		t.Errorf("made %v, %v", st.Mode(), err)
	}
	closed := mkdir(t, 0o500, dir, "closed") // as an unmount leaves it
	if f, err = OpenDirectory(closed); err != nil {
		t.Error(err)
	}
	f.Close()

	full := mkdir(t, 0o700, dir, "full")
	mkdir(t, 0o700, full, "something")
	symlink(t, closed, dir+"/link")
	os.WriteFile(dir+"/file", nil, 0o600)
	shared := mkdir(t, 0o777, dir, "shared")
	for name, c := range map[string]struct {
		path  string
		words []string
	}{
		"not empty":      {full, []string{"not empty", "something", "move"}},
		"symbolic link":  {dir + "/link", []string{"symbolic link"}},
		"file":           {dir + "/file", []string{"not a directory"}},
		"missing parent": {dir + "/no/where", []string{"no such file"}},
		"open parent":    {shared + "/x", []string{"writable for everyone", "chmod o-w"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenDirectory(c.path)
			faulttest.Want(t, err, fault.Mountpoint, c.words...)
		})
	}
	t.Run("not ours", func(t *testing.T) {
		if os.Geteuid() != 0 {
			_, err := OpenDirectory("/usr")
			faulttest.Want(t, err, fault.Mountpoint, "belongs to uid 0")
			return
		}
		theirs := mkdir(t, 0o700, dir, "theirs")
		if err := os.Chown(theirs, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		_, err := OpenDirectory(theirs)
		faulttest.Want(t, err, fault.Mountpoint, "belongs to uid 12345")
		_, err = OpenDirectory(theirs + "/x")
		faulttest.Want(t, err, fault.Mountpoint, theirs+" belongs to uid 12345")
	})
}
