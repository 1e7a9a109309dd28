package torture

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/mounted"
)

// orders tell the workers of a test build where to die. The layout is that of
// the file in crypt/torture.go.
type orders struct{ mem []byte }

const ordersVar = "_TOKENFS_ORDERS"

func newOrders(t testing.TB) *orders {
	path := filepath.Join(t.TempDir(), "orders")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(ordersVar, path)
	return &orders{mem}
}

func (o *orders) word(i int) *uint32 { return (*uint32)(unsafe.Pointer(&o.mem[4*i])) }

// A point is where to die: at a name, during a kind of request (0: any), when
// it was passed so many times.
type point struct {
	name  string
	kind  uint32
	times int
}

func (p point) String() string {
	if p.kind == 0 {
		return p.name
	}
	return fmt.Sprintf("%s during %s", p.name, kinds[p.kind])
}

func (o *orders) dieAt(p point) {
	h := fnv.New32a()
	h.Write([]byte(p.name))
	atomic.StoreUint32(o.word(1), p.kind)
	atomic.StoreUint32(o.word(2), uint32(p.times))
	atomic.StoreUint32(o.word(0), h.Sum32())
}

// cancel takes an order back; it says whether it was carried out.
func (o *orders) cancel() (died bool) { return atomic.SwapUint32(o.word(0), 0) == 0 }

func (o *orders) pending() bool { return atomic.LoadUint32(o.word(0)) != 0 }

func (o *orders) serveTwice() { atomic.StoreUint32(o.word(4), 1) }

// kinds are the FUSE requests that change something.
var kinds = map[uint32]string{
	1: "LOOKUP", 2: "FORGET", 42: "BATCH_FORGET", 4: "SETATTR", 6: "SYMLINK", 9: "MKDIR", 10: "UNLINK", 11: "RMDIR",
	12: "RENAME", 45: "RENAME2", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 18: "RELEASE", 20: "FSYNC", 21: "SETXATTR", 24: "REMOVEXATTR",
	25: "FLUSH", 35: "CREATE", 43: "FALLOCATE", 47: "COPY_FILE_RANGE", 51: "TMPFILE",
}

// steps are the points that each of those requests passes.
var steps = []string{"served", "changed", "record sealed", "staged", "committed", "cells freed", "keys erased",
	"before the answer", "answered", "slot given back"}

// unanswered are the kinds of request that have no answer.
var unanswered = map[uint32]bool{2: true, 42: true}

// points are all of them, but for a wipe's.
func points() (list []point) {
	for kind := range kinds {
		for _, name := range steps {
			if !unanswered[kind] || name != "before the answer" && name != "answered" {
				list = append(list, point{name, kind, 0})
			}
		}
	}
	for _, kind := range []uint32{16, 47, 4, 21} {
		list = append(list, point{"sealed", kind, 0}, point{"sealed", kind, 1})
	}
	for range 5 { // often: a log is compacted only now and then
		for _, name := range []string{"checkpoint: begun", "checkpoint: record committed", "checkpoint: written", "superblock sealed",
			"checkpoint: switched", "checkpoint: old key gone", "checkpoint: old half gone"} {
			list = append(list, point{name, 0, 0})
		}
		list = append(list, point{"checkpoint: record committed", 0, 5}, point{"read", 0, 3},
			point{"replay: begun", 0, 0}, point{"replay: keys swept", 0, 0}, point{"replay: cells swept", 0, 0})
	}
	return list
}

// What is shipped cannot be told to die or to forget: it has no code for that.
func TestShippedTakesNoOrders(t *testing.T) {
	for _, build := range []struct {
		tags []string
		has  bool
	}{{nil, false}, {[]string{tag}, true}} {
		b, err := os.ReadFile(mounted.Build(t, build.tags...))
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range []string{"tokenfs/crypt.Point", "tokenfs/crypt.Obey", ordersVar, "checkpoint: switched"} {
			if has := bytes.Contains(b, []byte(code)); has != build.has {
				t.Errorf("built with the tags %q, the command has %q: %v", build.tags, code, has)
			}
		}
	}
}

const tag = "tokenfs_torture"
