package fs

import (
	"sync/atomic"
	"unsafe"
)

// Watch tells from the slots' memory alone whether another process serves what
// it has read. It costs the server one load a request, and nobody anything
// while there are no requests.
type Watch struct {
	slots []byte
	seen  [slotCount]uint64 // the request that was in each slot, by its unique
	steps uint64
}

// NewWatch watches the slots of a crypt.Memory.
func NewWatch(slots []byte) *Watch { return &Watch{slots: slots} }

func (w *Watch) word() *uint32 { return word32(w.slots, watchWord) }

func word32(slots []byte, off int) *uint32 { return (*uint32)(unsafe.Pointer(&slots[off])) }

// Sleep returns when a request is being served.
func (w *Watch) Sleep() {
	for {
		atomic.StoreUint32(w.word(), 1)
		if w.busy() || atomic.LoadUint32(w.word()) == 0 {
			atomic.StoreUint32(w.word(), 0)
			return
		}
		futex(w.word(), futexWait, 1, nil)
	}
}

// wakeWatch is the server's part.
func (s *Server) wakeWatch() {
	w := word32(s.mem.Slots(), watchWord)
	if atomic.LoadUint32(w) != 0 && atomic.CompareAndSwapUint32(w, 1, 0) {
		futex(w, futexWake, 1, nil)
	}
}

// ProgressMade is how far a server has come.
type ProgressMade struct {
	Steps   uint64
	Serving bool // what its predecessor left behind is served
}

// Progress tells another process. Each step is a small one: a record of the
// log, an inode, a block. Work that is as long as there is data takes steps;
// an ordinary request takes none.
func Progress(slots []byte) ProgressMade {
	return ProgressMade{atomic.LoadUint64(as[uint64](slots[progressMade:])), atomic.LoadUint32(word32(slots, servingWord)) != 0}
}

// ResetProgress is called while no server runs.
func ResetProgress(slots []byte) {
	atomic.StoreUint64(as[uint64](slots[progressMade:]), 0)
	atomic.StoreUint32(word32(slots, servingWord), 0)
}

func (s *Server) step() { atomic.AddUint64(as[uint64](s.mem.Slots()[progressMade:]), 1) }

func (w *Watch) busy() bool {
	for i := range slotCount {
		if atomic.LoadUint32(word32(w.slots, slotsOff+i*slotSize)) != 0 {
			return true
		}
	}
	return false
}

// Look says whether any request is being served, and whether one of them was
// already at the last look, with no step taken since.
func (w *Watch) Look() (busy, stuck bool) {
	steps := Progress(w.slots).Steps
	moved := steps != w.steps
	w.steps = steps
	for i := range slotCount {
		off := slotsOff + i*slotSize
		if atomic.LoadUint32(word32(w.slots, off)) == 0 {
			w.seen[i] = 0
			continue
		}
		unique := atomic.LoadUint64(uniqueIn(w.slots, i))
		busy = true
		stuck = stuck || unique == w.seen[i]
		w.seen[i] = unique
	}
	return busy, stuck && !moved
}

// uniqueIn is the field of the request in a slot that tells it from all others.
func uniqueIn(slots []byte, slot int) *uint64 {
	return as[uint64](slots[slotsOff+slot*slotSize+8:])
}
