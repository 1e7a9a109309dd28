package faults

import (
	"flag"
	"slices"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
)

var pauseKills = flag.Int("pauses", 30, "how often to kill a worker in order to see how long its clients wait")

// A client that waits for a worker to be replaced waits for a process to start,
// and little more. How long that takes is up to the machine and what else it
// does, so it is measured right before each.
func TestPauses(t *testing.T) {
	for _, files := range []int{0, 1000} {
		u := installed.New(t, command(t), installed.Packaged)
		u.Must("mount")
		r := runMany(u, manyOrder{Files: files, Kills: *pauseKills, Start: u.Command})
		if t.Failed() {
			return
		}
		slices.Sort(r.Pauses)
		slices.Sort(r.Starts)
		at := func(list []time.Duration, percent int) time.Duration {
			return list[min(len(list)*percent/100, len(list)-1)].Round(10 * time.Microsecond)
		}
		t.Logf("%d files: %d pauses, shortest %v, p50 %v, p90 %v, p99 %v, longest %v; starting a process takes p50 %v, p90 %v, p99 %v, longest %v", files, len(r.Pauses),
			at(r.Pauses, 0), at(r.Pauses, 50), at(r.Pauses, 90), at(r.Pauses, 99), at(r.Pauses, 100), at(r.Starts, 50), at(r.Starts, 90), at(r.Starts, 99), at(r.Starts, 100))
		// The others tell more of what else the machine does.
		if shortest := r.Pauses[0]; shortest > 50*time.Millisecond {
			t.Errorf("%d files: even the shortest pause took %v", files, shortest)
		}
		u.Must("unmount")
		u.NothingLeft()
	}
}
