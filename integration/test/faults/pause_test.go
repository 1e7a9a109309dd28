package faults

import (
	"slices"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
)

// A client that waits for a worker to be replaced waits for a process to start,
// and little more. How long that takes is up to the machine and what else it
// does, so it is measured right before each. One iteration is one kill.
func BenchmarkPause(b *testing.B) {
	for _, c := range []struct {
		name  string
		files int
	}{{"empty", 0}, {"1000-files", 1000}} {
		b.Run(c.name, func(b *testing.B) {
			u := installed.New(b, command(b), installed.Packaged)
			u.Must("mount")
			r := runMany(u, manyOrder{Files: c.files, Kills: b.N, Start: u.Command})
			if b.Failed() {
				return
			}
			for what, list := range map[string][]time.Duration{"pause": r.Pauses, "start": r.Starts} {
				slices.Sort(list)
				for percent, name := range map[int]string{50: "p50", 99: "p99", 100: "longest"} {
					b.ReportMetric(float64(list[min(len(list)*percent/100, len(list)-1)].Microseconds()), what+"-"+name+"-us")
				}
			}
			u.Must("unmount")
			u.NothingLeft()
		})
	}
}
