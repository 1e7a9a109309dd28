package lifecycle

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestCollectOnDemand lets garbage pile up beside something that stays, which
// grows: the heap follows it, as under GOGC=100, and what is garbage goes, in the
// end also where nothing is allocated any more.
func TestCollectOnDemand(t *testing.T) {
	const again = "TOKENFS_TEST_COLLECT"
	if os.Getenv(again) == "" { // it is for good, so not in this process
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestCollectOnDemand$", "-test.v")
		cmd.Env = append(os.Environ(), again+"=1")
		out, err := cmd.CombinedOutput()
		if t.Logf("%s", out); err != nil {
			t.Fatal(err)
		}
		return
	}
	restAfter = 100 * time.Millisecond
	collectOnDemand()
	if percent := debug.SetGCPercent(-1); percent != -1 {
		t.Errorf("GOGC is %d: the collector's timer runs", percent)
	}
	var kept [][]byte
	var most uint64
	for i := range 1 << 13 {
		kept = append(kept, make([]byte, 4<<10)) // 32 MiB in the end
		for range 16 {
			garbage = make([]byte, 4<<10) // 512 MiB
		}
		if i%256 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d collections, at most %d MiB of which %d stay", m.NumGC, most>>20, len(kept)>>8)
	if most > 3*32<<20 {
		t.Errorf("the heap grew to %d MiB where 32 are in use", most>>20)
	}
	if m.NumGC > 200 {
		t.Errorf("%d collections for 544 MiB", m.NumGC)
	}
	kept, garbage = nil, nil
	forced := m.NumForcedGC
	for deadline := time.Now().Add(time.Minute); m.HeapInuse > smallHeap; time.Sleep(10 * time.Millisecond) {
		if runtime.ReadMemStats(&m); time.Now().After(deadline) {
			t.Fatalf("%d MiB are still in use after a while at rest", m.HeapInuse>>20)
		}
	}
	if n := m.NumForcedGC - forced; n > 3 {
		t.Errorf("%d collections at rest", n)
	}
}

var garbage []byte
