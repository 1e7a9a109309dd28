package fs

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// withoutUpkeep has nobody woken until it is called.
func (b *bench) withoutUpkeep() (resume func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	awake := b.upkeep
	b.upkeep = make(chan struct{}) // nobody listens
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.upkeep = awake
		b.wakeUpkeep()
	}
}

// leftCells counts what waits for the upkeep.
func (b *bench) leftCells() (n int) {
	for _, list := range b.left {
		n += len(list)
	}
	return n
}

// What a request erases of a large file it leaves to the upkeep, whose thread
// does it; the keys it erases itself. Those who seal meanwhile zero two cells
// for each that they take.
func TestErasingIsFinishedLater(t *testing.T) {
	const size = 4 * extentBytes
	b := newBench(t, 2*size, 16)
	resume := b.withoutUpkeep()
	node, other := b.createFile(t, "large"), b.createFile(t, "other")
	b.pour(t, node, size)
	before := b.mem.Status().ArenaBytes
	b.truncateTo(t, node, 0)
	if b.farKeys != 0 || b.usedPages != 0 {
		t.Errorf("%d far keys, %d pages are in use", b.farKeys, b.usedPages)
	}
	if n := b.leftCells(); n != 4*extentBlocks {
		t.Errorf("%d cells are left, not %d", n, 4*extentBlocks)
	}
	b.pour(t, other, 100*blockSize)
	if n := b.leftCells(); n != 4*extentBlocks-2*100 {
		t.Errorf("%d cells are left after 100 were taken, not %d", n, 4*extentBlocks-2*100)
	}
	resume()
	for n := 1; n > 0; { // the thread goes on for as long as there is something
		b.mu.Lock()
		n = b.leftCells()
		b.mu.Unlock()
	}
	if after := b.mem.Status().ArenaBytes; after > before-2*extentBytes {
		t.Errorf("%d bytes are behind the arena, %d before a file of %d was emptied", after, before, size)
	}
}

// Where all cells are in use or left, those are what a write gets.
func TestLeftCellsAreThereWhenNeeded(t *testing.T) {
	const quota = extentBytes
	b := newBench(t, quota, 1)
	defer b.withoutUpkeep()()
	b.inodeLimit = 3
	node := b.createFile(t, "file")
	cells := b.mem.Arena.Cells()
	for range 20 { // more than there are cells
		b.pour(t, node, quota)
		b.truncateTo(t, node, 0)
	}
	if cells > 20*extentBlocks {
		t.Errorf("there are %d cells, so this shows nothing", cells)
	}
}

// A successor finds what was left when its predecessor died.
func TestLeftCellsOfAPredecessor(t *testing.T) {
	b := newBench(t, 4*extentBytes, 16)
	defer b.withoutUpkeep()()
	node := b.createFile(t, "large")
	b.pour(t, node, 2*extentBytes)
	filled := b.mem.Status().ArenaBytes
	b.truncateTo(t, node, 0)
	next := b.attach(t)
	if after := next.mem.Status().ArenaBytes; after > filled-extentBytes {
		t.Errorf("%d bytes are behind the arena, %d when the file was full", after, filled)
	}
	next.pour(t, node, 2*extentBytes)
}

// Between two steps those go first who wait for the lock.
func TestYield(t *testing.T) {
	var m mutex
	m.Lock()
	got, turns := make(chan struct{}), 0
	go func() {
		m.Lock()
		close(got)
		m.Unlock()
	}()
	for m.state.Load() != awaited {
	}
	for done := false; !done; turns++ {
		m.Yield()
		select {
		case <-got:
			done = true
		default:
		}
	}
	m.Unlock()
	// A waiter that finds no processor for a millisecond misses a turn.
	if turns > 100 {
		t.Errorf("who waited got the lock after %d turns", turns)
	}
}

// A request that takes steps is not stuck, however long it is there.
func TestWatchCountsSteps(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	w := NewWatch(b.mem.Slots())
	b.send(opGetattr, rootIno, make([]byte, 16))
	look := func(what string, want bool) {
		t.Helper()
		if busy, stuck := w.Look(); !busy || stuck != want {
			t.Errorf("%s: busy %v, stuck %v", what, busy, stuck)
		}
	}
	look("seen for the first time", false)
	look("without a step", true)
	b.step()
	look("after a step", false)
	look("without another one", true)
	b.send(opGetattr, rootIno, make([]byte, 16))
	look("another request", false)
	b.r.finish()
	if busy, _ := w.Look(); busy {
		t.Error("busy without a request")
	}
}

// A request whose server ended twice is answered with an error, by the third,
// once and for all; one that was killed from outside has more patience.
func TestBlame(t *testing.T) {
	for name, end := range map[string]struct {
		weight uint64
		times  int
	}{"crashes": {BlameCrash, 2}, "kills": {BlameKill, 4}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1<<20, 16)
			slots := b.mem.Slots()
			node := b.createFile(t, "file")
			b.send(opWrite, node, writeFixed(0, 1), []byte("x"))
			for i := range end.times {
				b.r.req = b.r.mem[:*b.r.length()]
				b.r.in = as[fuse.InHeader](b.r.req)
				if b.blamed(b.r) {
					t.Fatalf("blamed for the end of %d", i)
				}
				b.serving(b.r) // and here it ends
				Blame(slots, end.weight)
			}
			b = b.attach(t)
			resend := func(data string) unix.Errno {
				b.unique -= 2
				b.send(opWrite, node, writeFixed(0, 1), []byte(data))
				return b.call()
			}
			if errno := resend("x"); errno != unix.EIO {
				t.Errorf("served again it is answered with %v", errno)
			}
			if errno := resend("x"); errno != unix.EIO {
				t.Errorf("answered again it is answered with %v", errno)
			}
			if got, errno := b.readAt(node, 0, 1); errno != 0 || len(got) != 0 {
				t.Errorf("the file holds %q, %v", got, errno)
			}
			if errno := b.writeAt(node, 0, []byte("y")); errno != 0 {
				t.Errorf("the next request is answered with %v", errno)
			}
			if got, errno := b.readAt(node, 0, 1); errno != 0 || !bytes.Equal(got, []byte("y")) {
				t.Errorf("the file holds %q, %v", got, errno)
			}
		})
	}
}

// A server that ends between requests blames none, and so does one that ended
// when the request had been answered.
func TestBlameNobody(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	slots := b.mem.Slots()
	for range 3 {
		b.send(opGetattr, rootIno, make([]byte, 16))
		if errno := b.call(); errno != 0 {
			t.Fatal(errno)
		}
		Blame(slots, BlameCrash)
		if b.blamed(b.r) {
			t.Error("a request that was served is blamed")
		}
		b.serving(b.r)
		b.r.finish()
		Blame(slots, BlameCrash)
		if w := blameOf(slots, 0).weight; w != 0 {
			t.Errorf("an empty slot is blamed with %d", w)
		}
	}
}
