package fs

import (
	"sync/atomic"
	"unsafe"
)

// A file handle has the number of the request that opened it. The kernel gives
// no two requests of a connection the same number, so no worker gives out what
// another one has given out, and an OPEN that is served again answers the same.
//
// Three things are known of a handle that has no draft, all in memory that
// outlives the process, beside the slots:
//
//	which contents of its file it has begun to read, at offset 0
//	which contents there were when it was opened to read, and nothing was read yet
//	that it may write and nothing was done through it yet
//
// There is room for handleCount of them. Where more meet, the oldest gives way:
// its next READ finds what the file holds then, and cutting the file through it
// begins no draft. Both are as on tmpfs.
const (
	handleSets  = 64
	handleWays  = 8
	handleCount = handleSets * handleWays
	handleBytes = 3 * handleCount * 8
)

// handles is the table, in columns.
type handles struct {
	fh   *[handleCount]uint64 // 0: nobody
	id   *[handleCount]uint64 // of the contents that it reads; 0: it may write, and nothing was done yet
	read *[handleCount]uint64 // the READ that began, or came to the end: unique<<1 | end; 0: none yet
}

const readEnd = 1

func handlesAt(b []byte) handles {
	column := func(i int) *[handleCount]uint64 {
		return (*[handleCount]uint64)(unsafe.Pointer(&b[i*handleCount*8 : (i+1)*handleCount*8][0]))
	}
	return handles{column(0), column(1), column(2)}
}

// set is where a handle can be. Numbers rise in steps, which multiplication
// spreads.
func (h handles) set(fh uint64) int {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	return int(fh*golden>>58) * handleWays
}

// find returns where fh is, -1 if it is not there.
func (h handles) find(fh uint64) int {
	set := h.set(fh)
	for i := set; i < set+handleWays; i++ {
		if h.fh[i] == fh && fh != 0 {
			return i
		}
	}
	return -1
}

// put notes a handle, and returns what contents were read in its place: by
// itself, or by one that gives way.
func (h handles) put(fh, id, read uint64) (lost uint64) {
	i := h.find(fh)
	if i < 0 {
		i = h.oldest(fh)
	}
	if h.fh[i] != 0 {
		lost = h.id[i]
	}
	// The number comes last: whoever takes over finds all of it or nothing.
	atomic.StoreUint64(&h.fh[i], 0)
	atomic.StoreUint64(&h.id[i], id)
	atomic.StoreUint64(&h.read[i], read)
	atomic.StoreUint64(&h.fh[i], fh)
	return lost
}

func (h handles) oldest(fh uint64) int {
	set := h.set(fh)
	oldest := set
	for i := set; i < set+handleWays; i++ {
		if h.fh[i] < h.fh[oldest] {
			oldest = i
		}
	}
	return oldest
}

// drop forgets a handle and returns what contents it was reading, if any.
func (h handles) drop(fh uint64) (lost uint64) {
	i := h.find(fh)
	if i < 0 {
		return 0
	}
	atomic.StoreUint64(&h.fh[i], 0)
	return h.id[i]
}

// opened has those who have opened a file when there were some contents, and have
// read nothing, count as having opened it when there were others.
func (h handles) opened(from, to uint64) {
	for i, id := range h.id {
		if id == from && h.read[i] == 0 {
			atomic.StoreUint64(&h.id[i], to)
		}
	}
}

// begun says whether something was read of the contents that the handle at i reads.
func (h handles) begun(i int) bool { return h.id[i] != 0 && h.read[i] != 0 }

// fresh says whether a handle may write and nothing was done through it yet.
func (h handles) fresh(fh uint64) bool {
	i := h.find(fh)
	return i >= 0 && h.id[i] == 0
}
