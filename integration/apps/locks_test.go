package apps

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	tokenfs "tokenfs/fs"
)

// deadPID is the pid of a process that has ended.
func deadPID(t *testing.T) int {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestLockedAppsAreLeftAlone(t *testing.T) {
	open := func(d *desk, rel string) *os.File {
		f, err := os.OpenFile(d.home(rel), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			d.Fatal(err)
		}
		d.Cleanup(func() { f.Close() })
		return f
	}
	flock := func(d *desk, rel string) { unix.Flock(int(open(d, rel).Fd()), unix.LOCK_EX) }
	for _, c := range []struct {
		name, app string
		lock      func(d *desk)
		want      string
	}{
		{"MSAL for Python", "azure-cli", func(d *desk) {
			fmt.Fprintf(open(d, ".azure/msal_token_cache.json.lockfile"), "%d az", os.Getpid())
		}, fmt.Sprintf("locked by process %d", os.Getpid())},
		{"MSAL for Node", "azure-identity", func(d *desk) {
			fmt.Fprint(open(d, ".IdentityService/msal.cache.lockfile"), os.Getpid())
		}, "locked by process"},
		{"MSAL for Go and .NET", "azure-identity", func(d *desk) { flock(d, ".IdentityService/msal.cache.lockfile") }, "is locked"},
		{"azd", "azd", func(d *desk) { flock(d, ".azd/auth/msal/cache.json.lock") }, "is locked"},
		{"kubectl", "kubectl", func(d *desk) { os.Chmod(open(d, ".kube/config.lock").Name(), 0) }, "config.lock is locked"},
		{"SQLite", "gcloud", func(d *desk) {
			lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 1 << 30, Len: 1}
			if err := unix.FcntlFlock(open(d, ".config/gcloud/credentials.db").Fd(), unix.F_OFD_SETLK, &lock); err != nil {
				d.Fatal(err)
			}
		}, "credentials.db is locked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, memoryDir(t))
			d.write(map[string]string{".azure/msal_token_cache.json": secret, ".IdentityService/msal.cache": secret, ".azd/auth/msal/cache.json": secret,
				".kube/config": secret, ".config/gcloud/credentials.db": secret})
			c.lock(d)
			before := d.snapshot()
			if err := d.Link(d.app(c.app), true); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("link: %v", err)
			}
			d.same("after a refusal", d.snapshot(), before)
		})
	}
}

func TestStaleLocksDoNotMatter(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".azure/msal_token_cache.json": secret, ".azure/msal_token_cache.json.lockfile": fmt.Sprintf("%d az", deadPID(t)),
		".azd/auth/msal/cache.json": secret, ".azd/auth/msal/cache.json.lock": ""})
	for _, name := range []string{"azure-cli", "azd"} {
		d.must(d.Link(d.app(name), false))
	}
	if entries, _ := filepath.Glob(filepath.Join(d.Mountpoint, "azure", "*lockfile")); len(entries) > 0 {
		t.Errorf("moved in: %v", entries)
	}
	for _, name := range []string{"azure-cli", "azd"} {
		d.must(d.Unlink(name, true, false))
	}
	if found := d.onDisk(secret); len(found) != 2 {
		t.Errorf("came back: %q", found)
	}
}

// While it is being moved, an app waits for its lock; and what one writes that
// does not wait is not lost.
func TestWhileItIsMoved(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".azure/msal_token_cache.json": secret, ".azd/auth/x": "", ".azd/auth.json": "old"})
	kept := "copied and exchanged"
	d.step = func(step string) {
		if step != "copied" {
			return
		}
		_, err := os.OpenFile(d.home(".azure/msal_token_cache.json.lockfile"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if !os.IsExist(err) {
			t.Errorf("the app's lock can be taken: %v", err)
		}
		if err := os.WriteFile(d.home(".azure/msal_token_cache.json"), []byte(kept), 0o600); err != nil {
			t.Error(err)
		}
	}
	d.must(d.Link(d.app("azure-cli"), false))
	if got := d.read(d.home(".azure/msal_token_cache.json")); got != kept {
		t.Errorf("it holds %q", got)
	}
	if left, _ := filepath.Glob(d.home(".azure*/*lockfile")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestErasureOverwrites(t *testing.T) {
	name := filepath.Join(memoryDir(t), "f")
	if err := os.WriteFile(name, []byte(strings.Repeat(secret, 1000)), 0o400); err != nil {
		t.Fatal(err)
	}
	other := name + "2"
	if err := os.Link(name, other); err != nil {
		t.Fatal(err)
	}
	if n, err := (&Engine{}).erase(name); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b, err := os.ReadFile(other)
	if err != nil || len(b) < len(secret)*1000 || strings.Contains(string(b), secret[:8]) {
		t.Errorf("what was there can be read under another name: %.40q, %v", b, err)
	}
	if _, err := os.Lstat(name); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestFailureTakesEverythingBack(t *testing.T) {
	for name, spoil := range map[string]func(d *desk){
		"the filesystem refuses": func(d *desk) {
			set := d.SetSkeleton
			d.SetSkeleton = func(folders []tokenfs.Folder) error {
				if len(folders) > 0 {
					return errors.New("no space")
				}
				return set(folders)
			}
		},
		"a file vanishes": func(d *desk) {
			d.step = func(step string) {
				if step == "copied" {
					os.Rename(d.home(".local/.IdentityService/msal.cache"), d.home("elsewhere"))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, memoryDir(t))
			d.write(twoCaches)
			before := d.whole()
			spoil(d)
			err := d.Link(d.app("azure-identity"), false)
			if err == nil || !strings.Contains(err.Error(), "everything is as it was") {
				t.Errorf("error %v", err)
			}
			os.Rename(d.home("elsewhere"), d.home(".local/.IdentityService/msal.cache"))
			d.same("after a failure", d.whole(), before, ".local/.IdentityService")
		})
	}
}

func TestErasureIsHonest(t *testing.T) {
	if word := erasure("/dev/shm"); !strings.Contains(word, "swap") {
		t.Errorf("of tmpfs: %s", word)
	}
	if word := erasure("/nonexistent"); !strings.Contains(word, "not known") {
		t.Errorf("of nothing: %s", word)
	}
	if word := erasure("/"); word == "" {
		t.Error("of / nothing is said")
	}
}

func TestSomebodyElsesHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can give a directory away")
	}
	d := newDesk(t, memoryDir(t))
	d.must(os.Chown(d.Dirs.Home, 65534, 65534))
	for _, err := range []error{d.Link(d.app("gh"), false), d.Unlink("gh", false, false)} {
		if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "as its owner") {
			t.Errorf("error %v", err)
		}
	}
	if _, err := os.Lstat(d.Dirs.Config); err == nil {
		t.Error("something was made in it")
	}
}
