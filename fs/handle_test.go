package fs

import (
	"math/rand/v2"
	"testing"
)

func TestHandles(t *testing.T) {
	h := handlesAt(make([]byte, handleBytes))
	if h.find(0) >= 0 || h.fresh(0) || h.find(2) >= 0 || h.drop(2) != 0 {
		t.Error("an empty table has somebody")
	}
	h.put(2, 0, 0)
	if !h.fresh(2) || h.fresh(4) {
		t.Error("who may write and has done nothing is not known")
	}
	if lost := h.put(2, 7, 11<<1); lost != 0 || h.fresh(2) || h.id[h.find(2)] != 7 || h.read[h.find(2)] != 11<<1 {
		t.Error("who has begun to read is not known")
	}
	if lost := h.put(2, 8, 12<<1); lost != 7 {
		t.Errorf("beginning again loses %d", lost)
	}
	if lost := h.drop(2); lost != 8 || h.find(2) >= 0 {
		t.Errorf("dropping loses %d", lost)
	}
}

// Handles are many and long-lived now and then: the oldest give way, and the
// others are all there.
func TestHandlesThatAreMany(t *testing.T) {
	h := handlesAt(make([]byte, handleBytes))
	const steps = 4 // of the kernel's numbers, for the requests of a load
	for fh := uint64(2); fh < 100*handleCount*steps; fh += steps {
		lost := h.put(fh, fh, fh<<1)
		if lost >= fh {
			t.Fatalf("%d gave way to %d", lost, fh)
		}
		// Sets fill unevenly; a quarter of the room is there for sure.
		if back := fh - handleCount/4*steps; fh > handleCount*steps && h.find(back) < 0 {
			t.Fatalf("of the last %d one has given way", handleCount/4)
		}
	}
}

// What a process that was killed leaves behind is whole, at each step.
func TestHandlesAreWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	h := handlesAt(make([]byte, handleBytes))
	known := map[uint64]uint64{}
	for range 100_000 {
		fh := 2 + 2*uint64(rng.IntN(3*handleCount))
		if rng.IntN(3) == 0 {
			if lost := h.drop(fh); lost != 0 && lost != known[fh] {
				t.Fatalf("%d loses %d, had %d", fh, lost, known[fh])
			}
			delete(known, fh)
			continue
		}
		known[fh] = 1 + rng.Uint64N(1000)
		h.put(fh, known[fh], 1)
		if i := h.find(fh); i < 0 || h.id[i] != known[fh] {
			t.Fatalf("%d is not there", fh)
		}
	}
	for i, fh := range h.fh {
		if fh != 0 && h.id[i] != known[fh] {
			t.Fatalf("%d reads %d, want %d", fh, h.id[i], known[fh])
		}
	}
}
