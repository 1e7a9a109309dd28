package faults

import (
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/installed"
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
				echo "save $n" > $f && read -r a b < $f && [ "$a $b" = "save $n" ] || { echo "failed at $n"; exit 1; }
			done`)
	}
	for range 3 {
		before := asleep(t)
		out, err := exec.Command("rtcwake", "-m", "mem", "-s", "4").CombinedOutput()
		if err != nil {
			t.Fatalf("rtcwake: %v: %s", err, out)
		}
		slept := asleep(t) - before
		if slept < time.Second {
			t.Fatalf("the machine slept for %v: it was not suspended", slept)
		}
		t.Logf("slept for %v", slept.Round(time.Millisecond))
		u.Shell("cat " + u.Path("cache.a") + " > /dev/null")
	}
	u.Shell("touch " + u.Path("enough"))
	for _, c := range clients {
		if said := <-c; said != "" {
			t.Error(said)
		}
	}
	if now := u.Status().Worker; now.PID != worker {
		t.Errorf("the worker was replaced: %+v", now)
	}
	u.Must("unmount")
	u.NothingLeft()
}
