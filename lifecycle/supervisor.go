package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"tokenfs/crypt"
	"tokenfs/fs"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/process"
)

const (
	// answerLimit is how long a worker may take to answer, be it a client's
	// request or ours, and for each step until it is ready. Then it is replaced.
	answerLimit = 2 * time.Second
	// lookEvery is how often requests are looked at while there are any.
	lookEvery = answerLimit / 4
)

// errNoAnswer means that the worker had to be replaced.
var errNoAnswer = errors.New("the worker did not answer and was replaced")

// A supervisor keeps a worker running, and does itself what must be done when
// none answers. It reads nothing that comes through the filesystem.
type supervisor struct {
	memory *crypt.Memory
	fuse   int
	state  workerState
	logf   func(format string, args ...any)
	notes  *fs.Notifier
	alone  process.KillTimer // see unserved
	over   chan error        // the filesystem is: nil if it was unmounted

	calls    chan struct{} // full while one is made
	mu       sync.Mutex
	changed  *sync.Cond // current, wiping, ending or ended
	current  *child     // nil while there is none that is ready
	starting *child     // not ready yet
	pids     []int      // the worker's, also while it is not ready
	restarts int
	wiping   bool // wanted as soon as no worker runs
	renewing bool // the worker was ended by renew
	ending   bool // start no more workers
	handing  bool // an upgrade has noted which workers there were: start none now
	ended    bool // no keys are left
	lastID   uint64
}

func newSupervisor(memory *crypt.Memory, fuse int, state workerState, logf func(string, ...any)) *supervisor {
	s := &supervisor{memory: memory, fuse: fuse, state: state, logf: logf, over: make(chan error, 1), calls: make(chan struct{}, 1)}
	s.notes = fs.NewNotifier(fuse, state.Inodes, logf)
	s.state.Secret, s.state.Why = memory.FDs().Secret, memory.FDs().Why
	s.changed = sync.NewCond(&s.mu)
	return s
}

// run starts workers, one after the other. Its thread lives as long as the
// process: a worker dies with the thread that started it (PR_SET_PDEATHSIG).
func (s *supervisor) run() {
	runtime.LockOSThread()
	go s.watch()
	go fs.AnswerQuestions(s.memory.Slots(), lookAtThread)
	err := s.keep()
	s.over <- err
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.changed.Broadcast()
	select {}
}

func (s *supervisor) keep() error {
	p := patience{atStake: s.restarts > 0}
	served := s.unserved()
	defer func() { served() }()
	for {
		fs.ResetProgress(s.memory.Slots())
		c, err := s.launch()
		var since time.Time
		if err == nil {
			served()
			since = time.Now()
			s.set(c)
			<-c.died
			served = s.unserved()
			s.set(nil)
			err = c.reap()
		} else if fs.Progress(s.memory.Slots()).Serving { // and we had not heard of it yet
			since = time.Now()
		}
		fs.Blame(s.memory.Slots(), blameFor(err))
		again, wiped := s.between(err == nil)
		if !again {
			return nil
		}
		if wiped {
			p = patience{atStake: true}
			continue
		}
		if p.note(since, err); since.IsZero() {
			s.logf("a worker failed to start: %v", err)
		} else {
			s.logf("the worker ended (%v): another one goes on where it was", err)
		}
		if p.over() {
			return fmt.Errorf("%d workers in a row failed to start or to stay up, the last one because: %w: everything is wiped and unmounted, look into that and run tokenfs mount", p.failed, err)
		}
		time.Sleep(p.pause())
	}
}

// unserved bounds how long this process may be stopped while no worker serves,
// since clients would wait for as long, and could not even be killed. Where one
// serves there is no need: it goes on without this process, and its end continues
// this one (continueAtEnd).
func (s *supervisor) unserved() (served func()) { return s.alone.PutOff(process.StillLimit) }

func (s *supervisor) set(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.starting = c, nil
	if c != nil && (s.wiping || s.ending) {
		c.kill() // it is in the way
	}
	s.changed.Broadcast()
}

// between does what needs a moment without a worker, and says whether there is
// to be another, and whether the last one was ended by a wipe.
func (s *supervisor) between(unmounted bool) (again, wiped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	if s.ending || unmounted {
		s.ending = true
		return false, false
	}
	if wiped = s.wiping; wiped {
		crypt.Quietly(s.memory.Fresh)
		s.wiping = false
	}
	renewed := s.renewing
	if s.renewing = false; !renewed {
		s.restarts++
	}
	return true, wiped || renewed
}

// launch starts a worker and returns when it serves.
func (s *supervisor) launch() (*child, error) {
	c, err := s.begin()
	if err != nil {
		return nil, err
	}
	err = s.handTo(c)
	if err == nil {
		return c, nil
	}
	s.set(nil)
	return nil, c.giveUp(err)
}

func (s *supervisor) begin() (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.handing && !s.ending && !s.wiping {
		s.changed.Wait()
	}
	c, err := s.spawn(workerRole)
	if err != nil {
		return nil, err
	}
	s.pids, s.starting = []int{c.Pid}, c
	if s.ending || s.wiping {
		c.kill()
	}
	return c, nil
}

// handOn is what an upgrade hands on, as it stays until goOn: the new program
// can end no worker that it does not know of.
func (s *supervisor) handOn() (restarts int, pids []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handing = true
	return s.restarts, slices.Clone(s.pids)
}

func (s *supervisor) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handing = false
	s.changed.Broadcast()
}

// spawn starts this program in a role. The kernel ends it when the calling
// thread ends, and with that at the latest when the process does; or soon after,
// see surviveKeeper.
func (s *supervisor) spawn(role string) (*child, error) {
	h, theirs, err := handover.New()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	said, tell, err := os.Pipe()
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("start a %s: %w", role, err)
	}
	defer tell.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		h.Close()
		said.Close()
		return nil, fmt.Errorf("start a %s: %w", role, err)
	}
	defer null.Close()
	var p process.Handle
	p.Pid, err = syscall.ForkExec(process.Program, []string{role}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(process.Environment(process.TestVars), workerVar+"="+role),
		Files: []uintptr{null.Fd(), null.Fd(), tell.Fd(), handover.FD: theirs.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &p.Fd},
	})
	if err != nil {
		h.Close()
		said.Close()
		return nil, fmt.Errorf("start a %s: %w", role, err)
	}
	c := &child{Handle: p, waits: h, died: make(chan struct{}), ready: make(chan struct{}), answers: make(chan toKeeper, 1), logf: s.logf, notes: s.notes}
	if err := process.ContinueAtEnd(said); err != nil {
		s.logf("be continued when the %s ends: %v", role, err)
	}
	go c.await()
	go c.relay(said)
	go func() { <-c.died; h.Close() }() // it will not come any more
	return c, nil
}

func (s *supervisor) handTo(c *child) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	m := s.memory.FDs()
	if err := handover.SendState(conn, s.begins(), s.fuse, m.Keys, m.Arena, m.Slots); err != nil {
		return fmt.Errorf("hand the filesystem over: %w", err)
	}
	conn.SetDeadline(time.Time{})
	go c.listen()
	// Looks are counted rather than time: if both of us were frozen, or this
	// process alone had to wait, that is not the worker's fault.
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var seen fs.ProgressMade
	for idle := time.Duration(0); idle < answerLimit; idle += lookEvery {
		select {
		case <-c.ready:
			return nil
		case <-c.died:
			return errors.New("it ended before it was ready")
		case <-look.C:
			if now := fs.Progress(s.memory.Slots()); now != seen {
				seen, idle = now, 0
			}
		}
	}
	return fmt.Errorf("it took no step for %v: %w", answerLimit, os.ErrDeadlineExceeded)
}

// begins is what a worker begins with.
func (s *supervisor) begins() workerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
