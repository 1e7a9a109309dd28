package lifecycle

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// smallHeap is how much a process may allocate before its first collection, as
// in any Go program.
const smallHeap = 4 << 20

// clearance is what the runtime keeps clear of a memory limit: it collects 1 MiB
// below, and from 5 % below gives back to the kernel what it needs again at once. A
// keeper that does that where memory has run out is killed for it.
const clearance = 2 << 20

// rest collects once more when work has ended: garbage that is less than what was
// in use would stay for as long as nothing happens.
var rest = time.AfterFunc(math.MaxInt64, debug.FreeOSMemory)

// restAfter is as long as Go's own timer waits.
var restAfter = 2 * time.Minute

// collections is how many there were, without those at rest.
var collections uint64

// collectOnDemand has the garbage collector run when there is garbage, and not
// every two minutes besides: an idle daemon is then not woken for it, which Go's
// monitor makes dozens of wake-ups of. The runtime leaves its timer out only where
// GOGC is off, so the heap's size is kept by the memory limit, which is set anew
// after each collection to what GOGC=100 would allow: twice what is in use.
func collectOnDemand() {
	debug.SetGCPercent(-1)
	limitHeap()
}

// collectAtRest is for what leaves garbage without allocating.
func collectAtRest() { rest.Reset(restAfter) }

func limitHeap() {
	sample := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/cycles/automatic:gc-cycles"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
	}
	metrics.Read(sample)
	live := sample[0].Value.Uint64()
	// The limit counts all that the runtime has, not the heap alone.
	other := sample[2].Value.Uint64()
	for _, s := range sample[3:] {
		other -= min(other, s.Value.Uint64())
	}
	debug.SetMemoryLimit(int64(other + max(2*live, smallHeap) + clearance))
	if n := sample[1].Value.Uint64(); n != collections {
		collections = n
		collectAtRest()
	}
	// What nobody refers to is gone with the next collection.
	runtime.AddCleanup(&struct{ self *byte }{}, func(struct{}) { limitHeap() }, struct{}{})
}
