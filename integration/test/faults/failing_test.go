package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

const workerRole = "tokenfs-worker"

// Each call that a worker makes to start fails once, or a signal comes in the
// middle of it: that worker goes on, or the next one, and nothing is lost.
func TestWorkerWithCallsRefused(t *testing.T) {
	for what, signal := range map[string]unix.Signal{"refused": 0, "killed": unix.SIGKILL, "terminated": unix.SIGTERM, "interrupted": unix.SIGURG} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			disturbWorkers(t, signal)
		})
	}
}

func disturbWorkers(t *testing.T, signal unix.Signal) {
	u := installed.New(t, command(t), installed.Packaged)
	l, said, code := launch(u, watched(), refusal{}, "mount")
	if code != 0 {
		t.Fatalf("mount: %d, %s", code, said)
	}
	u.Shell("echo 0 > " + u.Path("count"))
	count := 0
	for _, r := range refusals {
		r.kill = signal
		switch {
		case signal == 0 && (r.name == "fork" || r.name == "socket" || r.name == "pipe2"):
			r.role = "keeper"
		case signal != unix.SIGURG: // which ends nobody
			r.role = workerRole
		}
		hits := 0
		for n := range steps {
			r.skip, r.count = n, 1
			l.set(r)
			unix.Kill(u.Status().Worker.PID, unix.SIGKILL)
			count++
			timed(t, fmt.Sprintf("%s %d", r.name, n+1), func() {
				u.Shell(fmt.Sprintf("test $(cat %[1]s) = %[2]d && echo %[3]d > %[1]s", u.Path("count"), count-1, count))
			})
			u.Status() // the worker has come up, and made all its calls
			if l.carriedOut() == 0 {
				break
			}
			hits++
		}
		l.set(refusal{})
		t.Logf("%s: %d calls refused", r.name, hits)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// Memory that is not in use any more is given back to the kernel. Where that fails it
// stays the filesystem's, and is used again.
func TestMemoryThatIsNotTakenBack(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	l, said, code := launch(u, []int{unix.SYS_FALLOCATE}, refusal{nr: unix.SYS_FALLOCATE, errno: unix.ENOMEM, count: everything}, "mount", "--size", "8M")
	if code != 0 {
		t.Fatalf("mount: %d, %s", code, said)
	}
	u.Shell("echo kept > " + u.Path("kept") + "; head -c 4M /dev/urandom > " + u.Top + "/large")
	u.Shell("for i in 1 2 3 4 5 6 7 8; do cp " + u.Top + "/large " + u.Path("large") + " && cmp " + u.Top + "/large " + u.Path("large") + " && rm " + u.Path("large") + " || exit 1; done")
	if got := u.Shell("cat " + u.Path("kept")); got != "kept\n" {
		t.Errorf("the other file holds %q", got)
	}
	if l.carriedOut() == 0 {
		t.Error("no memory was given back: nothing was tested")
	}
	u.Must("wipe")
	u.Must("unmount")
	u.NothingLeft()
}

// A worker that cannot start any more is given up: everything is wiped and
// unmounted, and whoever waits hears so.
func TestWorkerThatCannotStart(t *testing.T) {
	for _, r := range []refusal{
		{name: "mmap, shared", nr: unix.SYS_MMAP, only: shared, errno: unix.ENOMEM, role: workerRole},
		{name: "fork", nr: unix.SYS_CLONE, only: newProcess, errno: unix.EAGAIN, role: "keeper"},
		{name: "execve", nr: unix.SYS_EXECVE, errno: unix.EACCES, role: "keeper"},
		{name: "prctl", nr: unix.SYS_PRCTL, errno: unix.EPERM, role: workerRole},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			u := installed.New(t, command(t), installed.Packaged)
			type end struct {
				said string
				code int
			}
			ended := make(chan end, 1)
			l := &launched{}
			go func() {
				said, code := l.run(u, watched(), "mount", "-f")
				ended <- end{said, code}
			}()
			u.Eventually("it is mounted", 10*time.Second, func() bool { _, code := u.Run("status"); return code == 0 })
			u.Shell("echo secret > " + u.Path("x"))
			pid := u.Status().Worker.PID
			r.count = everything
			l.set(r)
			unix.Kill(pid, unix.SIGKILL)
			client := inBackground(u, "cat "+u.Path("x"))
			timed(t, "giving up", func() {
				got := <-client
				if strings.Contains(got, "secret") || got == "" {
					t.Errorf("the client that waited read %q", got)
				}
				e := <-ended
				if e.code == 0 || !strings.Contains(e.said, "workers in a row failed to start") || !strings.Contains(e.said, "run tokenfs mount") {
					t.Errorf("it ended with %d and said %q", e.code, e.said)
				}
			})
			if l.carriedOut() < 5 {
				t.Errorf("only %d calls were refused", l.carriedOut())
			}
			l.set(refusal{})
			if r.role == "keeper" {
				// It could not start fusermount3 either: then the mount is dead,
				// and the next mount clears it.
				if said, code := u.End(u.Program("cat", u.Path("x"))); code == 0 {
					t.Errorf("a client read %q", said)
				}
			} else {
				u.NothingLeft()
			}
			u.Must("mount")
			u.Must("unmount")
			u.NothingLeft()
		})
	}
}
