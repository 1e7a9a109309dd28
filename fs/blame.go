package fs

import "sync/atomic"

// No request decides over the session. One that ended a server while it was
// served is there for the next server, and for the one after that; then it is
// answered with EIO and is out of the way.
//
// The server notes whose request holds its lock. Whoever starts servers says
// when one of them ended and how heavily that weighs: a crash says more about
// the request than a kill from outside, which may come at any moment.

// What an end weighs, and how much is too much.
const (
	BlameCrash = 2 // by itself, or because it did not answer
	BlameKill  = 1
	blameLimit = 2 * BlameCrash
)

// blame is what the memory before the slots keeps for each of them.
type blame struct{ unique, weight uint64 }

func blameOf(slots []byte, slot int) *blame {
	return as[blame](slots[savedBlame+slot*sizeOf[blame]():])
}

func (s *Server) serving(r *request) {
	atomic.StoreUint32(word32(s.mem.Slots(), servedWord), uint32(r.slot)+1)
}
func (s *Server) served() { atomic.StoreUint32(word32(s.mem.Slots(), servedWord), 0) }

// blamed says whether r is to be served no more.
func (s *Server) blamed(r *request) bool {
	b := blameOf(s.mem.Slots(), r.slot)
	return b.unique == r.in.Unique && b.weight >= blameLimit
}

// Blame notes that the server of these slots has ended, and is called before
// another one is started.
func Blame(slots []byte, weight uint64) {
	slot := int(atomic.SwapUint32(word32(slots, servedWord), 0)) - 1
	if slot < 0 || slot >= slotCount || atomic.LoadUint32(word32(slots, slotsOff+slot*slotSize)) == 0 {
		return // none was being served
	}
	b := blameOf(slots, slot)
	if unique := atomic.LoadUint64(uniqueIn(slots, slot)); b.unique != unique {
		*b = blame{unique: unique}
	}
	b.weight += weight
}
