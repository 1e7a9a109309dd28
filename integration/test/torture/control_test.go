package torture

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// A worker that serves again what was served already is found out: by the
// history alone, no syscall of these clients has a result that is wrong by
// itself.
func TestCheckerNoticesTwice(t *testing.T) {
	s := newSubject(t)
	s.serveTwice()
	rng := rand.New(rand.NewPCG(*seed, 5))
	c := start(t, filepath.Join(s.Dir, "names"), *seed, "names", "names", "names")
	died := 0
	for i := 0; i < 60 && died < 20; i++ {
		kind := []uint32{6, 10, 35, 45}[rng.IntN(4)]
		old := s.worker(t, 0)
		s.dieAt(point{"before the answer", kind, 0})
		for deadline := time.Now().Add(time.Second); s.pending() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if s.cancel() {
			died++
			s.worker(t, old)
			s.ready(t)
		}
	}
	c.end(t)
	if died < 5 {
		t.Fatalf("the worker died %d times between commit and answer: too few to tell", died)
	}
	var ops []Op
	for _, path := range c.logs {
		more, _, err := readLog(path)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, more...)
	}
	wrong := Linearizable(ops, State{}, Names)
	if wrong == nil {
		t.Fatalf("after %d deaths that had requests served twice, all of %d operations are explained", died, len(ops))
	}
	t.Logf("after %d deaths, of %d operations no order explains %v", died, len(ops), wrong)
}
