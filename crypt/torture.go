//go:build tokenfs_torture

package crypt

import (
	"hash/fnv"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The orders of a test to the processes of a test build: words of a file that
// both map.
const (
	orderPoint  = 0  // hash of the point to die at, 0: none
	orderKind   = 4  // and of the kind of request during which, 0: any
	orderCount  = 8  // and how many more times it is to be passed before that
	orderDeaths = 12 // how many there were
	orderTwice  = 16 // serve what was served already
	orderDeed   = 20 // what to do at the point, instead of dying
	OrdersSize  = 4096
)

// Deeds.
const (
	deedDie = iota
	deedSpin
	deedPanic
)

var (
	orders []byte
	during atomic.Uint32
)

// Obey has this process, which must be a worker, do what the file says.
func Obey(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	orders, err = unix.Mmap(int(f.Fd()), 0, OrdersSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

func order(at int) *uint32 { return (*uint32)(unsafe.Pointer(&orders[at])) }

// During names the kind of request that the points that follow belong to.
func During(kind uint32) { during.Store(kind) }

// Point is a place to die at, to hang at, or to panic at.
func Point(name string) {
	if orders == nil {
		return
	}
	wanted := atomic.LoadUint32(order(orderPoint))
	if wanted == 0 || wanted != PointHash(name) {
		return
	}
	if kind := atomic.LoadUint32(order(orderKind)); kind != 0 && kind != during.Load() {
		return
	}
	if int32(atomic.AddUint32(order(orderCount), ^uint32(0))) >= 0 {
		return
	}
	if atomic.CompareAndSwapUint32(order(orderPoint), wanted, 0) {
		atomic.AddUint32(order(orderDeaths), 1)
		switch atomic.LoadUint32(order(orderDeed)) {
		case deedSpin:
			for {
			}
		case deedPanic:
			panic("ordered by a test")
		}
		unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGKILL)
		select {}
	}
}

// PointHash is how the file names a point.
func PointHash(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

// ServesTwice says whether to forget which requests were served.
func ServesTwice() bool { return orders != nil && atomic.LoadUint32(order(orderTwice)) != 0 }
