package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A sample is what the filesystem takes while nothing is in it.
type sample struct {
	after          time.Duration
	pss, arena     int64
	keeper, worker usage
}

func (s sample) String() string {
	return fmt.Sprintf("after %v: PSS %d KiB, arena %d KiB; keeper %v; worker %v", s.after.Round(time.Second), s.pss>>10, s.arena>>10, s.keeper, s.worker)
}

// TestSoak is the torture without kills, or with few: whatever grows then, grows
// by being used.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("NOT RUN: takes as long as one likes: make soak, or -soak 10m")
	}
	s := newSubject(t, "--size=512M")
	t.Logf("seed %d", *seed)
	k := &tormentor{subject: s, rng: rand.New(rand.NewPCG(*seed, 6)), sum: newTally()}
	var samples []sample
	begun := time.Now()
	for round := 0; time.Since(begun) < *soak; round++ {
		c := start(t, filepath.Join(s.Dir, fmt.Sprint("round", round)), *seed+uint64(round), all()...)
		lastKill := time.Now()
		for since := time.Now(); c.ok(t) && time.Since(since) < 25*time.Second; time.Sleep(100 * time.Millisecond) {
			if *rare > 0 && time.Since(lastKill) > *rare {
				k.kill(t)
				k.early = 0
				lastKill = time.Now()
			}
		}
		c.end(t)
		if t.Failed() {
			t.FailNow()
		}
		c.judge(t, k.sum)
		k.pauses(t, c)
		if err := os.RemoveAll(c.dir); err != nil {
			t.Fatal(err)
		}
		s.balanced(t)
		worker := s.ready(t)
		st := s.status(t)
		now := sample{time.Since(begun), st.Memory.PSS, st.Content.Arena, measure(s.keeper), measure(worker)}
		t.Log(now)
		samples = append(samples, now)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Log(k.sum)
	s.tidy(t)
	s.unharmed(t)
	// The first minute is for getting warm.
	for len(samples) > 1 && samples[0].after < time.Minute {
		samples = samples[1:]
	}
	const more = 16 << 20 // what a log may hold before it is compacted, and garbage of the runtime
	first, last := samples[0], samples[len(samples)-1]
	if len(samples) == 1 {
		t.Logf("NOT CHECKED that nothing grows: %v are too short for that", *soak)
	} else if last.pss > first.pss+more || last.arena > first.arena+more ||
		last.keeper.threads > first.keeper.threads+8 || last.worker.threads > first.worker.threads+8 ||
		last.keeper.fds > first.keeper.fds || last.worker.fds > first.worker.fds {
		t.Errorf("it grew: %v, and %v", first, last)
	}
}
