package hygiene

import (
	"hash/fnv"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// orders are what a tokenfs_torture build of the worker obeys; their layout is
// that of crypt/torture.go.
type orders struct{ mem []byte }

// giveOrders is for all that the test starts from then on.
func giveOrders(t *testing.T) orders {
	t.Helper()
	path := filepath.Join(t.TempDir(), "orders")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	t.Setenv("_TOKENFS_ORDERS", path)
	return orders{mem}
}

func (o orders) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&o.mem[at])) }

// spinAt has the next worker that comes by a point spin there for ever.
func (o orders) spinAt(point string) {
	h := fnv.New32a()
	h.Write([]byte(point))
	const spin = 1
	atomic.StoreUint32(o.word(20), spin)
	atomic.StoreUint32(o.word(0), h.Sum32())
}

// await returns when it does.
func (o orders) await(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); atomic.LoadUint32(o.word(0)) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no worker came by")
		}
	}
}
