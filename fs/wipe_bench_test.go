package fs

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// BenchmarkWipe wipes 1000 files. What matters is when the keys are gone; the
// rest is tidying up.
func BenchmarkWipe(b *testing.B) {
	const files = 1000
	s := newBench(b, 64<<20, 64<<10)
	contents := bytes.Repeat([]byte{'x'}, 5000)
	var keys time.Duration
	for b.Loop() {
		b.StopTimer()
		for i := range files {
			if errno := s.writeAt(s.createFile(b, fmt.Sprint(i)), 0, contents); errno != 0 {
				b.Fatal(errno)
			}
		}
		start := time.Now()
		s.quietly(s.mem.Destroy)
		keys += time.Since(start)
		b.StartTimer()
		if err := s.Wipe(); err != nil {
			b.Fatal(err)
		}
		if s.files != 0 {
			b.Fatalf("%d files are left", s.files)
		}
	}
	b.ReportMetric(float64(keys.Microseconds())/float64(b.N), "µs/keys-gone")
}
