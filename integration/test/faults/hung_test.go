package faults

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// afflictions are what a worker can suffer from when it is asked for something.
// Each returns when the worker suffers, and says how to end it.
var afflictions = map[string]func(u *installed.User, o orders) (end func()){
	"stopped": func(u *installed.User, _ orders) func() {
		unix.Kill(u.Status().Worker.PID, unix.SIGSTOP)
		return func() {}
	},
	"spinning": func(u *installed.User, o orders) func() {
		o.at("served", spin)
		client := inBackground(u, "echo new > "+u.Path("new"))
		u.Eventually("worker spins", 5*time.Second, o.done)
		return func() { <-client }
	},
	"killed over and over": func(u *installed.User, _ orders) func() {
		keeper := u.Status().Mount.PID
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-over:
					return
				default:
					for _, pid := range u.Processes() {
						if pid != keeper && name(pid) == "tokenfs-worker" {
							unix.Kill(pid, unix.SIGKILL)
						}
					}
					time.Sleep(20 * time.Millisecond) // a pause between kills, nothing to wait for
				}
			}
		}()
		return func() { close(over); <-ended }
	},
}

func name(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.TrimSpace(string(b))
}

// What the user asks for is answered and done, whatever the worker does.
func TestKeeperNeedsNoWorker(t *testing.T) {
	for affliction, begin := range afflictions {
		for _, verb := range []string{"status", "wipe", "unmount"} {
			t.Run(affliction+"/"+verb, func(t *testing.T) {
				t.Parallel()
				u := installed.New(t, command(t, "tokenfs_torture"), installed.Packaged)
				o := giveOrders(u)
				u.Must("mount")
				u.Shell("echo secret > " + u.Path("x"))
				end := begin(u, o)
				timed(t, verb, func() { u.Must(verb) })
				switch verb {
				case "status":
					end()
					u.Eventually("a worker serves again", 10*time.Second, func() bool {
						out, err := u.Program("cat", u.Path("x")).CombinedOutput()
						return err == nil && string(out) == "secret\n"
					})
					u.Must("unmount")
				case "wipe":
					end()
					if said, code := u.End(u.Program("cat", u.Path("x"))); code == 0 || strings.Contains(said, "secret") {
						t.Errorf("after the wipe it showed %q", said)
					}
					u.Shell("echo again > " + u.Path("y") + " && cat " + u.Path("y"))
					u.Must("unmount")
				case "unmount":
					end()
				}
				u.NothingLeft()
			})
		}
	}
}

// A client whose request hangs in a worker goes on when that is replaced.
func TestClientsGoOnWhenTheWorkerHangs(t *testing.T) {
	for what, hang := range map[string]func(u *installed.User, o orders){
		"spinning": func(u *installed.User, o orders) { o.at("staged", spin) },
		"stopped in the middle": func(u *installed.User, o orders) {
			// Stopped from outside, while it spins in the middle of a request.
			o.at("staged", spin)
			pid := u.Status().Worker.PID
			go func() {
				for !o.done() {
					time.Sleep(time.Millisecond)
				}
				unix.Kill(pid, unix.SIGSTOP)
			}()
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			u := installed.New(t, command(t, "tokenfs_torture"), installed.Packaged)
			o := giveOrders(u)
			u.Must("mount")
			u.Shell("echo first > " + u.Path("log"))
			before := u.Status().Worker
			hang(u, o)
			timed(t, "a write", func() { u.Shell("echo second >> " + u.Path("log")) })
			if !o.done() {
				t.Error("the worker never hung")
			}
			if got := u.Shell("cat " + u.Path("log")); got != "first\nsecond\n" {
				t.Errorf("the file holds %q", got)
			}
			if after := u.Status().Worker; after.Restarts != before.Restarts+1 || after.PID == before.PID {
				t.Errorf("worker was %+v, is %+v", before, after)
			}
			u.Must("unmount")
			u.NothingLeft()
		})
	}
}

// A request that ends each worker that serves it ends in an error, and nothing
// else does: no single request decides over the session.
func TestNoRequestDecidesOverTheSession(t *testing.T) {
	for what, deed := range map[string]uint32{"spins": spin, "dies": die} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			u := installed.New(t, command(t, "tokenfs_torture"), installed.Packaged)
			o := giveOrders(u)
			u.Must("mount")
			u.Shell("echo secret > " + u.Path("x"))
			const write = 16
			o.during(write)
			client, said := inBackground(u, "echo new > "+u.Path("y")), ""
			ended := 0
			for deadline := time.Now().Add(time.Minute); said == "" && time.Now().Before(deadline); {
				o.at("sealed", deed)
				for said == "" && !o.done() {
					select {
					case said = <-client:
					case <-time.After(time.Millisecond):
					}
				}
				if said == "" {
					ended++
				}
			}
			o.during(0)
			if !strings.Contains(said, "Input/output error") && !strings.Contains(said, "I/O error") {
				t.Errorf("the client was told %q", said)
			}
			if ended < 2 || ended > 4 {
				t.Errorf("the request ended %d workers", ended)
			}
			u.Eventually("a worker serves again", 10*time.Second, func() bool {
				out, err := u.Program("cat", u.Path("x")).CombinedOutput()
				return err == nil && string(out) == "secret\n"
			})
			u.Shell("echo again > " + u.Path("y") + " && cat " + u.Path("y"))
			u.Must("unmount")
			u.NothingLeft()
		})
	}
}

// Nobody needs the keeper to read and write; who asks for it hears the truth.
func TestStoppedKeeper(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	u.Shell("echo secret > " + u.Path("x"))
	s := u.Status()
	if err := unix.Kill(s.Mount.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	timed(t, "reading and writing", func() {
		if got := u.Shell("echo more >> " + u.Path("x") + " && cat " + u.Path("x")); got != "secret\nmore\n" {
			t.Errorf("read %q", got)
		}
	})
	timed(t, "status", func() {
		if said, code := u.Run("status"); code != 4 || !strings.Contains(said, "hangs or is stopped") {
			t.Errorf("status ended with %d and said %q", code, said)
		}
	})
	timed(t, "unmount", func() { u.Must("unmount") })
	u.NothingLeft()
}

// Keys, mount and worker end with the keeper, and a new mount is clean.
func TestKilledKeeper(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	u.Shell("echo secret > " + u.Path("x"))
	s := u.Status()
	unix.Kill(s.Mount.PID, unix.SIGKILL)
	timed(t, "the end of the worker", func() {
		u.Eventually("worker ends", 5*time.Second, func() bool { return installed.Ended(s.Worker.PID) && installed.Ended(s.Mount.PID) })
	})
	if left := u.Processes(); len(left) > 0 {
		t.Errorf("processes %v are left, which may hold keys", left)
	}
	if said, code := u.End(u.Program("cat", u.Path("x"))); code == 0 || !strings.Contains(said, "not connected") {
		t.Errorf("a client read %q", said)
	}
	if said, code := u.Run("status"); code != 4 {
		t.Errorf("status ended with %d and said %q", code, said)
	}
	u.Must("mount")
	if said, code := u.End(u.Program("cat", u.Path("x"))); code == 0 || !strings.Contains(said, "No such file") {
		t.Errorf("after mounting again a client read %q", said)
	}
	u.Must("unmount")
	u.NothingLeft()
}
