package fs

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A checkpoint of many inodes is written in as many steps, with requests served
// in between; it holds what they changed, and then it is what counts.
func TestCheckpointWhileServing(t *testing.T) {
	const files = 2000
	b := newBench(t, 8<<20, 2*files)
	resume := b.withoutUpkeep()
	fill(t, b, files)
	if err := b.beginCheckpoint(); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for more := true; more; steps++ {
		node := b.createFile(t, fmt.Sprint("new", steps))
		b.pour(t, node, 100)
		if steps%2 == 0 {
			b.send(opUnlink, rootIno, nil, cstr(fmt.Sprint("new", steps)))
			if errno := b.call(); errno != 0 {
				t.Fatal(errno)
			}
		}
		var err error
		if more, err = b.checkpointStep(checkpointRecord); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 10 {
		t.Errorf("it was written in %d steps", steps)
	}
	next := b.attach(t)
	if diff := compare(b.Server, next.Server); diff != "" {
		t.Error(diff)
	}
	resume()
}

// The upkeep writes a checkpoint when the log has grown, and zeroes what it
// replaces; nobody has asked for it.
func TestUpkeepWritesCheckpoints(t *testing.T) {
	b := newBench(t, 8<<20, 100)
	node := b.createFile(t, "cache")
	for range 4000 {
		if errno := b.writeAt(node, 0, []byte("x")); errno != 0 {
			t.Fatal(errno)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for done := false; !done; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		done = b.ckpt == nil && !b.mem.Log.Worth()
		b.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("the log was not compacted")
		}
	}
	next := b.attach(t)
	if diff := compare(b.Server, next.Server); diff != "" {
		t.Error(diff)
	}
}

// Where the upkeep gets nowhere, a request that finds the log full writes the
// checkpoint itself, or the rest of it: no request fails for that.
func TestLogFullWithoutUpkeep(t *testing.T) {
	for _, begun := range []bool{false, true} {
		b := newBench(t, 1<<20, 64)
		resume := b.withoutUpkeep()
		var nodes []uint64
		for i := range 60 {
			nodes = append(nodes, b.createFile(t, fmt.Sprint("f", i)))
		}
		if begun {
			if err := b.beginCheckpoint(); err != nil {
				t.Fatal(err)
			}
			if _, err := b.checkpointStep(1); err != nil {
				t.Fatal(err)
			}
		}
		had := 0
		for full := 0; full < 2; had++ {
			before := b.mem.Log.Worth()
			if errno := b.chmodAll(nodes, uint32(0o600+had%8)); errno != 0 {
				t.Fatalf("after %d: %v", had, errno)
			}
			if before && !b.mem.Log.Worth() {
				full++
			}
		}
		t.Logf("full twice after %d changes of %d inodes", had, len(nodes))
		next := b.attach(t)
		if diff := compare(b.Server, next.Server); diff != "" {
			t.Error(diff)
		}
		resume()
		b.end()
		next.end()
	}
}

// chmodAll is one operation that changes many inodes.
func (b *bench) chmodAll(nodes []uint64, mode uint32) unix.Errno {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errno := b.roomFor(2 * len(nodes) * inodeEdit); errno != 0 {
		return errno
	}
	for _, node := range nodes {
		n := b.inodes[node]
		n.mode = n.mode&unix.S_IFMT | mode
		b.tx.put(n)
	}
	b.tx.commit()
	return 0
}
