package fs

import (
	"fmt"
	"sync/atomic"

	"tokenfs/crypt"
)

// What happens to the arena, by a faulty machine or by somebody's hand, costs the
// contents that it happened to, and is told: never are other bytes returned, and
// nothing that was acknowledged goes in silence.

// tell says what a replay found altered. Nothing is built on a log of which the
// end is missing.
func (s *Server) tell(found crypt.Damage) {
	if found.Superblock {
		s.logf("the arena's superblock was altered, and is put right: nothing is lost")
	}
	if found.Checkpoint {
		s.logf("the newest checkpoint of the log was altered, and the log before it is used: nothing is lost")
	}
	if found.Lost > 0 {
		s.degrade(fmt.Sprintf("the log was altered: the last %d of its %d records are lost", found.Lost, found.Of))
	}
}

// degrade refuses all changes from here on.
func (s *Server) degrade(why string) {
	s.readOnly = why
	s.logf("the filesystem is read-only now: %s", why)
}

// altered counts, in memory that outlives this process, how often contents did
// not authenticate.
func (s *Server) altered() uint64 {
	return atomic.LoadUint64(as[uint64](s.mem.Slots()[savedAltered:]))
}

// foundAltered counts one more, and says whether to log it: the first few are.
func (s *Server) foundAltered() bool {
	const few = 16
	return atomic.AddUint64(as[uint64](s.mem.Slots()[savedAltered:]), 1) <= few
}
