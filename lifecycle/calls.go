package lifecycle

import (
	"errors"
	"fmt"
	"time"
)

// What the keeper asks of its worker; each of it ends, whatever the worker does.

// call asks the worker, waiting for one that is being started.
func (s *supervisor) call(m toWorker, limit time.Duration) (toKeeper, error) {
	s.calls.Lock()
	defer s.calls.Unlock()
	deadline := time.After(limit)
	c := s.awaitWorker(limit)
	if c == nil {
		return toKeeper{}, errNoAnswer
	}
	s.lastID++
	m.ID = s.lastID
	line, err := encode(m)
	if err != nil {
		return toKeeper{}, err
	}
	go c.conn.Write(line) // may block if the worker reads nothing
	for {
		select {
		case answer := <-c.answers:
			if answer.ID != m.ID {
				continue // of a call that was given up
			}
			if answer.Error != "" {
				return answer, &workerError{answer}
			}
			return answer, nil
		case <-c.died:
			return toKeeper{}, errNoAnswer
		case <-deadline:
			s.replace("the worker did not answer for %v", limit)
			<-c.died
			return toKeeper{}, errNoAnswer
		}
	}
}

// workerError is an error as it was in the worker.
type workerError struct{ answer toKeeper }

func (e *workerError) Error() string { return e.answer.Error }

func (e *workerError) Unwrap() error {
	if e.answer.Errno == 0 {
		return nil
	}
	return e.answer.Errno
}

// awaitWorker returns the worker, nil if there is none within limit.
func (s *supervisor) awaitWorker(limit time.Duration) *child {
	late := false
	timer := time.AfterFunc(limit, func() {
		s.mu.Lock()
		late = true
		s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.current == nil && !s.ending && !late {
		s.changed.Wait()
	}
	return s.current
}

func (s *supervisor) status() (st workerStatus, pid int, restarts int, err error) {
	answer, err := s.call(toWorker{Verb: verbStatus}, answerLimit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		pid = s.current.pid
	}
	if err == nil && answer.Status == nil {
		err = errors.New("the worker answered something else")
	}
	if err == nil {
		st = *answer.Status
	}
	return st, pid, s.restarts, err
}

// wipe destroys all keys; if the worker cannot, it is killed and they are
// destroyed here.
func (s *supervisor) wipe() error {
	if _, err := s.call(toWorker{Verb: verbWipe}, answerLimit); err == nil || !errors.Is(err, errNoAnswer) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wiping = true
	if s.current != nil {
		s.current.kill()
	}
	for s.wiping && !s.ending {
		s.changed.Wait()
	}
	return nil
}

func (s *supervisor) wipePath(path []byte) (files int, err error) {
	answer, err := s.call(toWorker{Verb: verbWipe, Path: path}, wipeLimit)
	if errors.Is(err, errNoAnswer) {
		err = fmt.Errorf("%s: %w: try again, or wipe everything", path, err)
	}
	return answer.Files, err
}

// stop destroys the keys for good. A worker that can still be reached goes on
// answering, with errors, until the filesystem is unmounted.
func (s *supervisor) stop() {
	s.mu.Lock()
	alive := s.current != nil && !s.ending
	s.ending = true
	s.mu.Unlock()
	s.changed.Broadcast()
	if alive {
		s.call(toWorker{Verb: verbStop}, answerLimit)
	}
	s.memory.Destroy()
}

// end kills a worker that is still there.
func (s *supervisor) end() {
	s.mu.Lock()
	c := s.current
	s.mu.Unlock()
	if c != nil {
		c.kill()
		<-c.died
	}
}
