package lifecycle

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
)

// What the keeper asks of its worker; each of it ends, whatever the worker does.

// call asks the worker, waiting for one that is being started.
func (s *supervisor) call(m toWorker, limit time.Duration) (toKeeper, error) {
	return s.callWhile(m, limit, func() bool { return false })
}

// callPatiently does so for as long as the worker takes steps.
func (s *supervisor) callPatiently(m toWorker, limit time.Duration) (toKeeper, error) {
	var seen fs.ProgressMade
	return s.callWhile(m, limit, func() bool {
		before := seen
		seen = fs.Progress(s.memory.Slots())
		return seen != before
	})
}

// callWhile gives the worker limit to answer, and begins anew whenever goesOn is
// true then.
func (s *supervisor) callWhile(m toWorker, limit time.Duration, goesOn func() bool) (toKeeper, error) {
	deadline := time.After(limit)
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	case <-deadline: // of somebody who has more patience
		return toKeeper{}, errNoAnswer
	}
	c := s.awaitWorker(limit)
	if c == nil {
		return toKeeper{}, errNoAnswer
	}
	deadline = time.After(limit) // it shall not suffer for its predecessor
	goesOn()
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
			if goesOn() {
				deadline = time.After(limit)
				continue
			}
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
	answer, err := s.callPatiently(toWorker{Verb: verbStatus}, answerLimit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		pid = s.current.Pid
	}
	if err == nil && answer.Status == nil {
		err = errors.New("the worker answered something else")
	}
	if err == nil {
		st = *answer.Status
	}
	return st, pid, s.restarts, err
}

// settleLimit is how long a wipe waits for the kernel to forget names and
// attributes; the keys are gone before it starts to wait.
const settleLimit = time.Second

// wipe destroys all keys; if the worker cannot, it is killed and they are
// destroyed here.
func (s *supervisor) wipe() error {
	_, err := s.call(toWorker{Verb: verbWipe}, answerLimit)
	serving, here := true, errors.Is(err, errNoAnswer)
	if here {
		s.wipeHere()
		// What the kernel is to forget is for its successor to say.
		err, serving = nil, s.awaitWorker(answerLimit) != nil
	}
	if s.notes.Settle(settleLimit) && serving {
		fs.NoticesSettled(s.memory.Slots())
	}
	if err == nil && !here {
		s.renew()
	}
	return err
}

// renew replaces a worker that did nothing wrong: the names it had are still
// about on its heap, and go with it. Requests wait for the next one.
func (s *supervisor) renew() {
	s.mu.Lock()
	if c := s.current; c != nil && !s.ending {
		s.renewing = true
		c.kill()
		for s.current == c {
			s.changed.Wait()
		}
	}
	s.mu.Unlock()
	s.awaitWorker(answerLimit)
}

// wipeHere destroys all keys as soon as no worker runs.
func (s *supervisor) wipeHere() {
	s.mu.Lock()
	defer s.mu.Unlock()
	fs.OweNotices(s.memory.Slots())
	s.wiping = true
	s.killAll()
	for s.wiping && !s.ended {
		s.changed.Wait()
	}
}

// setSkeleton is for this worker and all after it.
func (s *supervisor) setSkeleton(folders []fs.Folder) error {
	s.mu.Lock()
	s.state.Skeleton = folders
	s.mu.Unlock()
	_, err := s.call(toWorker{Verb: verbSkeleton, Skeleton: folders}, answerLimit)
	s.notes.Settle(settleLimit)
	if errors.Is(err, errNoAnswer) {
		return nil // the next one begins with it
	}
	return err
}

func (s *supervisor) wipePath(path []byte) (files int, err error) {
	ask := toWorker{Verb: verbWipe, Path: path}
	answer, err := s.callPatiently(ask, answerLimit)
	if errors.Is(err, errNoAnswer) {
		// The next one finishes what this one began, which may be all.
		answer, err = s.callPatiently(ask, answerLimit)
		if errors.Is(err, unix.ENOENT) {
			err = nil
		}
	}
	s.notes.Settle(settleLimit)
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
	if !alive {
		s.end()
	} else if _, err := s.call(toWorker{Verb: verbStop}, answerLimit); errors.Is(err, errNoAnswer) {
		s.end()
	}
	s.memory.Destroy()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.changed.Broadcast()
}

// end kills a worker that is still there, or about to be.
func (s *supervisor) end() {
	s.mu.Lock()
	killed := s.killAll()
	s.mu.Unlock()
	for _, c := range killed {
		<-c.died
	}
}

// killAll is called with mu held.
func (s *supervisor) killAll() (killed []*child) {
	for _, c := range []*child{s.current, s.starting} {
		if c != nil {
			c.kill()
			killed = append(killed, c)
		}
	}
	return killed
}
