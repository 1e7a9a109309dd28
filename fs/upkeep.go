package fs

import (
	"runtime/debug"
	"time"

	"tokenfs/crypt"
)

// Upkeep is work that follows from requests and that none of them has to wait
// for: zeroing the cells of large files whose keys are gone, writing checkpoints
// of the index, zeroing the log that they replace, and bringing to their end drafts
// that nobody goes on with. One thread does it step by step. Each step holds the
// lock for a moment and counts for the watch;
// between two of them those go first who wait for the lock. What is not done
// when the process ends, its successor finds to do.

// freeAtOnce is how many cells an operation zeroes itself, and how many one step
// of the upkeep does: as long as an ordinary request takes.
const freeAtOnce = 64

// leave has cells zeroed by the upkeep. Until then nobody gets them.
func (s *Server) leave(cells []uint32) {
	s.left = append(s.left, cells)
	s.wakeUpkeep()
}

// freeLeft zeroes up to n of the cells that were left, and says whether there
// were any.
func (s *Server) freeLeft(n int) bool {
	if len(s.left) == 0 {
		return false
	}
	last := &s.left[len(s.left)-1]
	n = min(n, len(*last))
	for _, c := range (*last)[len(*last)-n:] {
		s.mem.Arena.Free(c)
	}
	if *last = (*last)[:len(*last)-n]; len(*last) == 0 {
		*last = nil
		s.left = s.left[:len(s.left)-1]
	}
	return true
}

func (s *Server) wakeUpkeep() {
	select {
	case s.upkeep <- struct{}{}:
	default: // it is awake, or about to be
	}
}

// serveUpkeep is the thread of the upkeep.
func (s *Server) serveUpkeep(awake <-chan struct{}) {
	defer close(s.upkept)
	crypt.Quiet()
	defer crypt.EndThread()
	debug.SetPanicOnFault(true)
	for range awake {
		s.mu.Lock()
		for s.upkeepStep() {
			s.step()
			s.mu.Yield()
		}
		s.mu.Unlock()
		crypt.BeginWait()
	}
}

// upkeepStep does a little, and says whether there was something to do.
func (s *Server) upkeepStep() (more bool) {
	if s.gone.Load() {
		return false
	}
	defer func() {
		if p := recover(); p != nil {
			s.recovered("the upkeep", p)
			more = false
		}
	}()
	switch {
	case s.readOnly != "":
		return false
	case s.tidyDue:
		s.tidyDue = false
		s.tidy(time.Now())
		return true
	case s.freeLeft(freeAtOnce), s.mem.Log.WipeStale():
		return true
	case s.ckpt != nil:
		if _, err := s.checkpointStep(checkpointRecord); err != nil {
			s.logf("write a checkpoint: %v", err)
			s.abandonCheckpoint()
		}
		return true
	case s.mem.Log.Worth():
		if err := s.beginCheckpoint(); err != nil {
			s.logf("write a checkpoint: %v", err)
			s.abandonCheckpoint()
			return false
		}
		return true
	}
	return false
}
