package apps

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What is killed at every step. Each begins in a desk that prepare has set up.
var killed = map[string]struct {
	prepare func(d *desk)
	run     func(d *desk) error

	reads map[string]string // what the app finds at every moment
}{
	"link": {
		prepare: func(d *desk) { d.write(azureHome) },
		run:     func(d *desk) error { return d.Link(d.app("azure-cli"), false) },
		reads:   map[string]string{".azure/msal_token_cache.json": secret + " 1", ".azure/config": "[core]"},
	},
	"link to what is there": {
		prepare: func(d *desk) {
			d.write(azureHome)
			d.must(os.MkdirAll(filepath.Join(d.Mountpoint, "azure/logs"), 0o750))
			d.must(os.WriteFile(filepath.Join(d.Mountpoint, "azure/own.json"), []byte("there before"), 0o600))
		},
		run:   func(d *desk) error { return d.Link(d.app("azure-cli"), false) },
		reads: map[string]string{".azure/msal_token_cache.json": secret + " 1", ".azure/config": "[core]"},
	},
	"link from nothing": {
		prepare: func(d *desk) {},
		run:     func(d *desk) error { return d.Link(d.app("aws"), false) },
	},
	"link two directories and one from nothing": {
		prepare: func(d *desk) { d.write(twoCaches) },
		run:     func(d *desk) error { return d.Link(d.app("azure-identity"), false) },
		reads:   twoCaches,
	},
	"link by variable": {
		prepare: func(d *desk) { d.write(map[string]string{".npmrc": secret}) },
		run:     func(d *desk) error { return d.Link(d.app("npm"), true) },
	},
	"unlink": {
		prepare: func(d *desk) { d.write(azureHome); d.must(d.Link(d.app("azure-cli"), false)) },
		run:     func(d *desk) error { return d.Unlink("azure-cli", false, false) },
		reads:   map[string]string{".azure/config": "[core]"},
	},
	"unlink and keep tokens": {
		prepare: func(d *desk) { d.write(azureHome); d.must(d.Link(d.app("azure-cli"), false)) },
		run:     func(d *desk) error { return d.Unlink("azure-cli", true, false) },
		reads:   map[string]string{".azure/msal_token_cache.json": secret + " 1", ".azure/config": "[core]"},
	},
	"unlink two directories": {
		prepare: func(d *desk) { d.write(twoCaches); d.must(d.Link(d.app("azure-identity"), false)) },
		run:     func(d *desk) error { return d.Unlink("azure-identity", true, false) },
		reads:   twoCaches,
	},
	"unlink by variable": {
		prepare: func(d *desk) {
			d.write(map[string]string{".npmrc": secret})
			d.must(d.Link(d.app("npm"), true))
		},
		run: func(d *desk) error { return d.Unlink("npm", true, false) },
	},
}

var twoCaches = map[string]string{".IdentityService/msal.cache": secret + " home", ".local/.IdentityService/msal.cache": secret + " local"}

func (d *desk) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// killVar names the operation, the step and the desk of a process that is to
// die; only TestKilledAtEveryStep sets it.
const killVar = "APPS_TEST_KILL"

func TestMain(m *testing.M) {
	if what := os.Getenv(killVar); what != "" {
		part := strings.SplitN(what, "\n", 3)
		n, _ := strconv.Atoi(part[1])
		d := newDesk(&testing.T{}, part[2])
		d.step = func(string) {
			if n--; n == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		run := func(d *desk) error { return d.Unlink("gh", false, false) }
		if op, ok := killed[part[0]]; ok {
			run = op.run
		}
		if err := run(d); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runKilled does an operation in a process that dies at its nth step, and says
// whether it came so far.
func (d *desk) runKilled(name string, n int, root string) (died bool) {
	d.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s\n%d\n%s", killVar, name, n, root))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return true
	}
	if err != nil {
		d.Fatalf("%s, step %d: %v\n%s", name, n, err, out)
	}
	return false
}

// whole is the home directory and the mount together. Of times it says only
// whether they are those of the beginning.
func (d *desk) whole() map[string]string {
	seen := d.snapshot()
	home := d.Dirs.Home
	d.Dirs.Home = d.Mountpoint
	for name, what := range d.snapshot() {
		seen["mount: "+name] = what
	}
	d.Dirs.Home = home
	for name, what := range seen {
		if !strings.HasPrefix(what, "->") && !strings.HasSuffix(what, longAgo.String()) {
			seen[name] = strings.Join(strings.Fields(what)[:1+strings.Count(what, " ")/4], " ") + " now"
		}
	}
	// Nobody restores the times of directories in which something was renamed.
	for _, name := range []string{".local", ".local/share", ".cache", ".aws", ".aws/sso"} {
		if _, ok := seen[name]; ok {
			seen[name] = "there"
		}
	}
	return seen
}

func equal(a, b map[string]string) bool {
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return len(a) == len(b)
}

// Whenever it dies: until then the app finds its files, and afterwards all is
// as it was or as it was to be, and somebody says which.
func TestKilledAtEveryStep(t *testing.T) {
	for name, op := range killed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Paths are in links: every run is in a desk of the same name.
			root := filepath.Join(memoryDir(t), "desk")
			fresh := func() *desk {
				if err := os.RemoveAll(root); err != nil {
					t.Fatal(err)
				}
				d := newDesk(t, root)
				op.prepare(d)
				return d
			}
			before := fresh().whole()
			d := fresh()
			d.must(op.run(d))
			after := d.whole()
			states := map[bool]int{}
			for n := 1; ; n++ {
				d := fresh()
				died := d.runKilled(name, n, root)
				for file, want := range op.reads {
					if got := d.read(d.home(file)); got != want {
						t.Errorf("killed at step %d: %s holds %q", n, file, got)
					}
				}
				if !died {
					if got := d.whole(); !equal(got, after) {
						d.same("when nothing killed it", got, after)
					}
					if t.Logf("killed %d times", n-1); n < 5 {
						t.Error("too few steps")
					}
					break
				}
				d.must(d.Unlink("gh", false, false))
				got := d.whole()
				linkedNow, linkedBefore := len(d.onDisk(secret)) == 0, strings.HasPrefix(name, "unlink")
				switch {
				case equal(got, after):
					states[true]++
				case equal(got, before):
					states[false]++
				default:
					t.Errorf("killed at step %d: neither as before nor as wanted; said %q", n, d.said)
					d.same("as before", got, before)
					d.same("as wanted", got, after)
					t.FailNow()
				}
				if d.heard("interrupted") && !d.heard("linked") && !d.heard("as it was before") {
					t.Errorf("killed at step %d: it does not say in which state it is: %q (linked: %v, %v)", n, d.said, linkedNow, linkedBefore)
				}
				if s, err := loadState(List(d.Dirs), d.Dirs.Home); err != nil || len(s.Links) > 0 && s.Links[0].Phase != linked {
					t.Errorf("killed at step %d: list %+v, %v", n, s, err)
				}
			}
			if states[false] == 0 || states[true] == 0 {
				t.Errorf("states seen: %d as before, %d as wanted", states[false], states[true])
			}
		})
	}
}

// What settles an interrupted run can be interrupted, too.
func TestKilledWhileSettling(t *testing.T) {
	for _, name := range []string{"link", "unlink two directories"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, op := filepath.Join(memoryDir(t), "desk"), killed[name]
			fresh := func() *desk {
				if err := os.RemoveAll(root); err != nil {
					t.Fatal(err)
				}
				d := newDesk(t, root)
				op.prepare(d)
				return d
			}
			before := fresh().whole()
			d := fresh()
			d.must(op.run(d))
			after := d.whole()
			kills := 0
			// Every step of settling, behind every third of what it settles.
			for n := 1; fresh().runKilled(name, n, root); n += 3 {
				for m := 1; ; m++ {
					d := fresh()
					d.runKilled(name, n, root)
					died := d.runKilled("settle", m, root)
					d.must(d.Unlink("gh", false, false))
					if got := d.whole(); !equal(got, after) && !equal(got, before) {
						t.Errorf("killed at step %d, and settling at step %d: neither as before nor as wanted; said %q", n, m, d.said)
						d.same("as before", got, before)
						d.same("as wanted", got, after)
						t.FailNow()
					}
					if !died {
						break
					}
					kills++
				}
			}
			if t.Logf("killed %d times", kills); kills < 5 {
				t.Error("too few steps")
			}
		})
	}
}

// A wipe between the kill and the next run must cost nothing that was on disk.
func TestKilledThenWiped(t *testing.T) {
	root := filepath.Join(memoryDir(t), "desk")
	kept := 0
	for n := 1; ; n++ {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		d := newDesk(t, root)
		d.write(twoCaches)
		if !d.runKilled("link two directories and one from nothing", n, root) {
			break
		}
		s, err := loadState(List(d.Dirs), d.Dirs.Home)
		d.must(err)
		erased := len(s.Links) == 0 || s.Links[0].Phase != linking
		d.wipe()
		d.must(d.Unlink("gh", false, false))
		if erased && n > 2 {
			continue // it was linked then, and the wipe was of its tokens
		}
		kept++
		for file, want := range twoCaches {
			if got := d.read(d.home(file)); got != want {
				t.Errorf("killed at step %d, then wiped: %s holds %q", n, file, got)
			}
		}
	}
	if kept < 5 {
		t.Errorf("only %d steps before anything was erased", kept)
	}
}

// The way of filesystems that cannot exchange two names.
func TestExchangeByThree(t *testing.T) {
	for stop := 1; stop <= 4; stop++ {
		dir := memoryDir(t)
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		os.WriteFile(a, []byte("a"), 0o600)
		os.WriteFile(b, []byte("b"), 0o600)
		func() {
			defer func() { recover() }()
			n := 0
			if err := exchangeByThree(a, b, func(string) {
				if n++; n == stop {
					panic("killed")
				}
			}); err != nil {
				t.Error(err)
			}
		}()
		if err := settleExchange(a, b); err != nil {
			t.Error(err)
		}
		x, _ := os.ReadFile(a)
		y, _ := os.ReadFile(b)
		if got := string(x) + string(y); got != "ab" && got != "ba" || stop >= 3 && got != "ba" {
			t.Errorf("stopped after %d renames: %q", stop, got)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 2 {
			t.Errorf("stopped after %d renames: %v", stop, entries)
		}
	}
}
