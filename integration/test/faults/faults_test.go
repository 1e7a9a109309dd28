package faults

import (
	"encoding/binary"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

func TestMain(m *testing.M) {
	if isUnfit() {
		unfitMain()
	}
	switch filepath.Base(os.Args[0]) {
	case launcherName:
		launcherMain()
	case manyName:
		manyMain()
	}
	code := m.Run()
	for _, dir := range builtDirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var (
	building  sync.Mutex
	built     = map[string]string{}
	builtDirs []string
)

// command builds the command once for all tests.
func command(t testing.TB, tags ...string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	key := strings.Join(tags, ",")
	if built[key] == "" {
		dir, err := os.MkdirTemp("", "tokenfs-faults")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "tokenfs")
		if err := installed.Copy(installed.Build(t, tags...), path, 0o755); err != nil {
			t.Fatal(err)
		}
		built[key], builtDirs = path, append(builtDirs, dir)
	}
	return built[key]
}

// orders are what a test build of the worker obeys; see crypt/torture.go.
type orders []byte

const (
	die   = 0
	spin  = 1
	panik = 2
)

func giveOrders(u *installed.User) orders {
	u.Helper()
	path := filepath.Join(u.Top, "orders")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		u.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		u.Fatal(err)
	}
	if err := os.Chown(path, u.UID, u.UID); err != nil {
		u.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		u.Fatal(err)
	}
	u.Cleanup(func() { unix.Munmap(mem) })
	u.Env = append(u.Env, "_TOKENFS_ORDERS="+path)
	return mem
}

// at orders a deed for the next time that a worker comes by a point.
func (o orders) at(point string, deed uint32) {
	h := fnv.New32a()
	h.Write([]byte(point))
	binary.NativeEndian.PutUint32(o[20:], deed)
	binary.NativeEndian.PutUint32(o[8:], 0)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&o[0])), h.Sum32())
}

// during limits the orders that follow to a kind of request, 0: none.
func (o orders) during(kind uint32) { binary.NativeEndian.PutUint32(o[4:], kind) }

// done says whether it was carried out.
func (o orders) done() bool { return atomic.LoadUint32((*uint32)(unsafe.Pointer(&o[0]))) == 0 }

// timed logs how long f takes. How long it may take is up to the machine and what
// else that does; only what hangs fails.
func timed(t testing.TB, what string, f func()) {
	t.Helper()
	const hangs = 2 * time.Minute
	start := time.Now()
	f()
	if took := time.Since(start); took > hangs {
		t.Errorf("%s took %v", what, took)
	} else {
		t.Logf("%s took %v", what, took.Round(time.Millisecond))
	}
}

// inBackground runs a shell script of a client's and returns its result.
func inBackground(u *installed.User, script string) <-chan string {
	result := make(chan string, 1)
	go func() {
		out, err := u.Program("sh", "-c", script).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		result <- string(out)
	}()
	return result
}
