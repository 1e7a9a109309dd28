package faults

import (
	"flag"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

var setClock = flag.Bool("clock", false, "set the machine's clock back and forth: for a virtual machine")

// jumps are where the clock is set to, from where it should be.
var jumps = []time.Duration{
	time.Hour, -time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour, 3 * time.Second, -3 * time.Second, 0,
}

// Nothing waits, ends or is given up because of what the clock on the wall says.
func TestClockJumps(t *testing.T) {
	if !*setClock || os.Getuid() != 0 {
		t.Skip("NOT RUN: sets the machine's clock: pass -clock, as root, where nobody minds")
	}
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	began := time.Now()
	jump := func(by time.Duration) {
		t.Helper()
		// Round(0) leaves the wall clock's reading; Since goes by the monotonic one.
		now := unix.NsecToTimespec(began.Round(0).Add(time.Since(began) + by).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { jump(0) })

	var over atomic.Bool
	saved := make(chan int, 1)
	var wrong atomic.Pointer[string]
	go func() {
		n := 0
		for ; !over.Load() && wrong.Load() == nil; n++ {
			out, err := u.Program("sh", "-c", `for i in 1 2 3 4 5 6 7 8 9; do echo "$1 $i" > "$2" && read -r a b < "$2" && [ "$a $b" = "$1 $i" ] || exit; done`, "sh", time.Duration(n).String(), u.Path("cache")).CombinedOutput()
			if err != nil {
				said := string(out) + err.Error()
				wrong.Store(&said)
			}
		}
		saved <- n
	}()
	for _, by := range jumps {
		jump(by)
		old := u.Status().Worker.PID
		timed(t, "clock "+by.String()+" off: a killed worker's successor", func() {
			unix.Kill(old, unix.SIGKILL)
			u.Shell("cat " + u.Path("cache") + " > /dev/null; touch " + u.Path("x"))
		})
		stopped := u.Status().Worker.PID
		if stopped == old {
			t.Errorf("clock %v off: the killed worker, %d, is still named", by, old)
		}
		// The clock jumps again while the keeper waits for it.
		unix.Kill(stopped, unix.SIGSTOP)
		client := inBackground(u, "touch "+u.Path("y"))
		jump(-by)
		timed(t, "a stopped worker's successor", func() {
			if said := <-client; said != "" {
				t.Error(said)
			}
		})
		if now := u.Status().Worker.PID; now == stopped {
			t.Errorf("clock %v off: the stopped worker was not replaced", by)
		}
	}
	over.Store(true)
	t.Logf("%d rounds of nine saves and loads meanwhile", <-saved)
	if said := wrong.Load(); said != nil {
		t.Error(*said)
	}
	u.Must("unmount")
	u.NothingLeft()
}
