package apps

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tokenfs "tokenfs/fs"
)

// at2 is the same desk with its filesystem at another place, as after a change of
// the uid.
func (d *desk) at2(mnt string) {
	d.Helper()
	d.must(os.RemoveAll(d.Mountpoint))
	d.must(os.MkdirAll(mnt, 0o700))
	d.Engine.Mountpoint = mnt
	d.SetSkeleton = func(folders []tokenfs.Folder) error { return lay(mnt, folders) }
	d.Wipe = func(path string) error { return os.RemoveAll(filepath.Join(mnt, path)) }
}

// A filesystem that is elsewhere now has what is linked lead to it, whatever step
// of that was the last one.
func TestLinksFollowTheFilesystem(t *testing.T) {
	for stop := 0; ; stop++ {
		root := memoryDir(t)
		d := newDesk(t, root)
		d.write(azureHome)
		d.write(map[string]string{".npmrc": "//r/:_authToken=x"})
		d.must(errors.Join(d.Link(d.app("azure-cli"), false), d.Link(d.app("terraform"), false), d.Link(d.app("npm"), true)))
		d.at2(filepath.Join(root, "mnt2"))
		if r := d.report("azure-cli"); !strings.Contains(r.Places[0].Broken, "is a link to") || r.Run != "tokenfs link azure-cli" {
			t.Errorf("before: %+v", r)
		}
		n, stopped := 0, false
		d.step = func(string) {
			if n++; n == stop {
				panic("killed")
			}
		}
		func() {
			defer func() { stopped = recover() != nil }()
			d.must(d.Link(d.app("azure-cli"), false))
		}()
		d.step = nil
		if stopped {
			d.must(d.Link(d.app("azure-cli"), false))
		}
		for _, name := range []string{".azure", ".terraform.d"} {
			if to, err := os.Readlink(d.home(name)); err != nil || !strings.HasPrefix(to, d.Mountpoint+"/") {
				t.Fatalf("stopped at step %d: %s leads to %q, %v", stop, name, to, err)
			}
		}
		if got := d.read(d.home(".azure/config")); got != "[core]" {
			t.Errorf("stopped at step %d: config holds %q", stop, got)
		}
		if set := d.read(d.home(".config/environment.d/60-tokenfs.conf")); !strings.Contains(set, d.Mountpoint+"/npm/.npmrc") {
			t.Errorf("variables: %s", set)
		}
		d.must(d.Unlink("azure-cli", false, false))
		if st, err := os.Lstat(d.home(".azure")); err != nil || !st.IsDir() {
			t.Errorf("unlinked: %v", err)
		}
		if stop > 0 && !stopped {
			if stop < 5 {
				t.Errorf("only %d steps", stop)
			}
			break
		}
	}
}

// A home may be moved, with all that is linked in it.
func TestHomeIsMoved(t *testing.T) {
	root := memoryDir(t)
	d := newDesk(t, root)
	d.write(azureHome)
	d.must(d.Link(d.app("azure-cli"), false))
	if text := d.read(List(d.Dirs)); strings.Contains(text, d.Dirs.Home) || !strings.Contains(text, `"~/.azure"`) {
		t.Errorf("the list names the home: %s", text)
	}
	d.must(os.Rename(d.Dirs.Home, filepath.Join(root, "elsewhere")))
	home := filepath.Join(root, "elsewhere")
	dirs, err := FindDirs(func(name string) string { return map[string]string{"HOME": home}[name] })
	d.must(err)
	d.Dirs = dirs
	d.wipe()
	os.RemoveAll(filepath.Join(d.Mountpoint, "azure"))
	d.wipe()
	if got := d.read(d.home(".azure/config")); got != "[core]" {
		t.Errorf("in the new home config holds %q", got)
	}
	d.must(d.Unlink("azure-cli", false, false))
	if st, err := os.Lstat(d.home(".azure")); err != nil || !st.IsDir() {
		t.Errorf("unlinked: %v", err)
	}
}

// What a shell's variables say of directories is for that shell: a mount at login
// does not know it, and finds the list all the same. One that an earlier version
// has put elsewhere is moved.
func TestListIsBelowHome(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	plain := d.Dirs
	d.Dirs.Config = d.home("cfg")
	d.write(map[string]string{"cfg/gh/hosts.yml": secret, "cfg/gh/config.yml": "settings"})
	d.must(d.Link(d.app("gh"), false))
	folders, err := Skeleton(List(plain), plain.Home, d.Mountpoint)
	if err != nil || len(folders) != 1 {
		t.Fatalf("a mount would make %v, %v", folders, err)
	}
	list := List(plain)
	d.must(os.Rename(list, d.home("list")))
	d.must(os.MkdirAll(d.home("cfg/tokenfs"), 0o700))
	d.must(os.Rename(d.home("list"), d.home("cfg/tokenfs/apps.json")))
	d.must(d.Link(d.app("terraform"), false))
	if _, err := os.Stat(list); err != nil {
		t.Error(err)
	}
	// Without the variable what is settings is known to be some.
	d.Dirs = plain
	d.must(os.WriteFile(d.home("cfg/gh/other"), []byte("x"), 0o600))
	d.must(d.Unlink("gh", false, false))
	if d.read(d.home("cfg/gh/config.yml")) != "settings" || d.read(d.home("cfg/gh/other")) != "x" {
		t.Error("settings did not come back")
	}
}

// Lists of the format before are read.
func TestListOfFormat1(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	d.must(d.Link(d.app("azure-cli"), false))
	text := strings.NewReplacer(`"format_version": 2`, `"format_version": 1`, `"~/`, `"`+d.Dirs.Home+`/`).Replace(d.read(List(d.Dirs)))
	d.must(os.WriteFile(List(d.Dirs), []byte(text), 0o600))
	if r := d.report("azure-cli"); !r.Linked {
		t.Errorf("%+v", r)
	}
	d.must(d.Unlink("azure-cli", true, false))
}
