package lifecycle

import (
	"time"

	"tokenfs/fs"
)

// watch replaces a worker that holds a request for too long.
func (s *supervisor) watch() {
	w := fs.NewWatch(s.memory.Slots())
	for {
		w.Sleep()
		for stuck := 0; ; {
			time.Sleep(lookEvery)
			busy, still := w.Look()
			if !busy {
				break
			}
			if !still {
				stuck = 0
				continue
			}
			if stuck++; time.Duration(stuck)*lookEvery >= answerLimit {
				s.replace("a request was not answered for %v", answerLimit)
				stuck = 0
			}
		}
	}
}

// replace kills the worker there is; run starts another.
func (s *supervisor) replace(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.logf(format, args...)
		s.current.kill()
	}
}
