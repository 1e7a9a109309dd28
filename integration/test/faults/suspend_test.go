package faults

import (
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

var suspend = flag.Bool("suspend", false, "suspend the machine to memory: for a virtual machine")

// asleep is how long the machine has been suspended since it was booted.
func asleep(t *testing.T) time.Duration {
	t.Helper()
	var all, awake unix.Timespec
	for clock, at := range map[int32]*unix.Timespec{unix.CLOCK_BOOTTIME: &all, unix.CLOCK_MONOTONIC: &awake} {
		if err := unix.ClockGettime(clock, at); err != nil {
			t.Fatal(err)
		}
	}
	return time.Duration(all.Nano() - awake.Nano())
}

// A machine that is suspended while clients are at work goes on as if nothing
// had been: none of them fails, and the worker's silence is not held against it.
//
// The kernel freezes all processes at once. Who waits for an answer from a
// filesystem whose process is frozen already cannot be frozen himself (true of
// every FUSE filesystem), and after 20 s the kernel gives up and lets everything
// go on. So a suspend may be refused, and is tried again; nothing may fail by it.
func TestSuspend(t *testing.T) {
	if !*suspend || os.Getuid() != 0 {
		t.Skip("NOT RUN: suspends the machine: pass -suspend, as root, where nobody minds")
	}
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	worker := u.Status().Worker.PID
	clients := make([]<-chan string, 4)
	for i := range clients {
		clients[i] = inBackground(u, `f=`+u.Path("cache."+string(rune('a'+i)))+`
			n=0
			until [ -e `+u.Path("enough")+` ]; do
				n=$((n+1))
				sleep 0.2
				echo "save $n" > $f && read -r a b < $f && [ "$a $b" = "save $n" ] || { echo "failed at $n"; exit 1; }
			done`)
	}
	suspended, refused := 0, 0
	var longest time.Duration // something else may wake the machine at once
	for suspended < 3 || longest < time.Second && suspended < 10 {
		before := asleep(t)
		out, err := exec.Command("rtcwake", "-m", "mem", "-s", "4").CombinedOutput()
		slept := asleep(t) - before
		switch {
		case err == nil:
			suspended++
			longest = max(longest, slept)
			t.Logf("slept for %v", slept.Round(time.Millisecond))
		case err != nil && refused < 6:
			refused++
			t.Logf("refused: %s", out)
		default:
			t.Fatalf("rtcwake: %v: %s", err, out)
		}
		u.Shell("echo awake > " + u.Path("x") + " && cat " + u.Path("x") + " > /dev/null")
	}
	if longest < time.Second {
		t.Errorf("the machine slept for %v at most: it was not suspended", longest)
	}
	u.Shell("touch " + u.Path("enough"))
	for _, c := range clients {
		if said := <-c; said != "" {
			t.Error(said)
		}
	}
	if now := u.Status().Worker; now.PID != worker && refused == 0 {
		t.Errorf("the worker was replaced: %+v", now)
	}
	u.Must("unmount")
	u.NothingLeft()
}
