package lifecycle

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs"
)

const (
	// answerLimit is how long a worker may take to answer, be it a client's
	// request or ours, and for each step until it is ready. Then it is replaced.
	answerLimit = 2 * time.Second
	// wipeLimit is for wiping paths, which takes as long as there are files.
	wipeLimit = 10 * time.Second
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
	over   chan error // the filesystem is: nil if it was unmounted

	calls    chan struct{} // full while one is made
	mu       sync.Mutex
	changed  *sync.Cond // current, wiping, ending or ended
	current  *child     // nil while there is none that is ready
	starting *child     // not ready yet
	pids     []int      // the worker's, also while it is not ready
	restarts int
	wiping   bool // wanted as soon as no worker runs
	ending   bool // start no more workers
	ended    bool // no keys are left
	lastID   uint64
}

func newSupervisor(memory *crypt.Memory, fuse int, state workerState, logf func(string, ...any)) *supervisor {
	s := &supervisor{memory: memory, fuse: fuse, state: state, logf: logf, over: make(chan error, 1), calls: make(chan struct{}, 1)}
	s.notes = fs.NewNotifier(fuse, logf)
	s.state.Secret, s.state.Why = memory.FDs().Secret, memory.FDs().Why
	s.changed = sync.NewCond(&s.mu)
	return s
}

// run starts workers, one after the other. Its thread lives as long as the
// process: a worker dies with the thread that started it (PR_SET_PDEATHSIG).
func (s *supervisor) run() {
	runtime.LockOSThread()
	go s.watch()
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
	for {
		fs.ResetProgress(s.memory.Slots())
		c, err := s.launch()
		var served time.Time
		if err == nil {
			served = time.Now()
			s.set(c)
			<-c.died
			s.set(nil)
			err = c.reap()
		} else if fs.Progress(s.memory.Slots()).Serving { // and we had not heard of it yet
			served = time.Now()
		}
		again, wiped := s.between(err == nil)
		if !again {
			return nil
		}
		if wiped {
			p = patience{atStake: true}
			continue
		}
		if p.note(served, err); served.IsZero() {
			s.logf("a worker failed to start: %v", err)
		} else {
			s.logf("the worker ended (%v) and was replaced: nothing is lost", err)
		}
		if p.over() {
			return fmt.Errorf("%d workers in a row failed to start or to stay up, the last one because: %w: everything is wiped and unmounted, look into that and run tokenfs mount", p.failed, err)
		}
		time.Sleep(p.pause())
	}
}

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
// to be another.
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
	s.restarts++
	return true, wiped
}

// A child is a worker as its keeper sees it.
type child struct {
	pid     int
	waits   *handover
	conn    *net.UnixConn
	died    chan struct{} // it is a zombie: its pid is still its own
	ours    atomic.Bool   // we killed it
	ready   chan struct{}
	answers chan toKeeper
	notes   *fs.Notifier
	locked  *lockedDown // set before ready
	logf    func(format string, args ...any)
}

// launch starts a worker and returns when it serves.
func (s *supervisor) launch() (*child, error) {
	c, err := s.spawn(workerRole, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.pids, s.starting = []int{c.pid}, c
	if s.ending || s.wiping {
		c.kill()
	}
	s.mu.Unlock()
	err = s.handTo(c)
	if err == nil {
		return c, nil
	}
	s.set(nil)
	select {
	case <-c.died:
	default:
		c.kill()
		<-c.died
	}
	if end := c.reap(); end != nil {
		err = fmt.Errorf("%w (%w)", err, end)
	}
	return nil, err
}

// spawn starts this program in a role. With whenAlone it gets that signal when
// the calling thread ends.
func (s *supervisor) spawn(role string, whenAlone syscall.Signal) (*child, error) {
	h, err := newHandover()
	if err != nil {
		return nil, err
	}
	said, tell, err := os.Pipe()
	if err != nil {
		h.close()
		return nil, fmt.Errorf("start a %s: %w", role, err)
	}
	defer tell.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		h.close()
		said.Close()
		return nil, fmt.Errorf("start a %s: %w", role, err)
	}
	defer null.Close()
	pid, err := syscall.ForkExec(selfExe, []string{role}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(daemonEnv(), fmt.Sprintf("%s=%s %s", workerVar, h.name(), role)),
		Files: []uintptr{null.Fd(), null.Fd(), tell.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: whenAlone},
	})
	if err != nil {
		h.close()
		said.Close()
		return nil, fmt.Errorf("start a %s: %w", role, err)
	}
	c := &child{pid: pid, waits: h, died: make(chan struct{}), ready: make(chan struct{}), answers: make(chan toKeeper, 1), logf: s.logf, notes: s.notes}
	go c.await()
	go c.relay(said)
	go func() { <-c.died; h.close() }() // it will not come any more
	return c, nil
}

// connect waits for the process to come for what it is to have.
func (c *child) connect() (*net.UnixConn, error) {
	defer c.waits.close()
	conn, err := c.waits.accept(c.pid)
	if err == nil {
		c.conn = conn
	}
	return conn, err
}

func (s *supervisor) handTo(c *child) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	m := s.memory.FDs()
	if err := sendState(conn, s.begins(), s.fuse, m.Keys, m.Arena, m.Slots); err != nil {
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
	return fmt.Errorf("it took no step for %v", answerLimit)
}

// begins is what a worker begins with.
func (s *supervisor) begins() workerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// await notes the end of the process, and ends it if somebody stops it: a
// stopped worker answers nobody.
func (c *child) await() {
	for {
		var info siginfo
		err := waitid(c.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT)
		if err == unix.EINTR {
			continue
		}
		if err == nil && info.code == cldStopped {
			c.logf("somebody stopped the worker")
			unix.Kill(c.pid, unix.SIGKILL) // and is not our doing
			for waitid(c.pid, &info, unix.WEXITED|unix.WNOWAIT) == unix.EINTR {
			}
		}
		close(c.died)
		return
	}
}

func (c *child) kill() {
	c.ours.Store(true)
	unix.Kill(c.pid, unix.SIGKILL)
}

// reap says how a dead process ended; nil if it ended by itself.
func (c *child) reap() error {
	if c.conn != nil {
		c.conn.Close()
	}
	var ws unix.WaitStatus
	for {
		switch _, err := unix.Wait4(c.pid, &ws, 0, nil); err {
		case nil:
			return endOf(ws, c.ours.Load())
		case unix.EINTR:
		default:
			return err
		}
	}
}

// relay logs what a worker says that it cannot say otherwise: a runtime error.
func (c *child) relay(said *os.File) {
	defer said.Close()
	lines := bufio.NewScanner(said)
	for n := 0; lines.Scan(); n++ {
		if n < 40 {
			c.logf("worker: %s", lines.Text())
		}
	}
	io.Copy(io.Discard, said)
}

func (c *child) listen() {
	in := &rightsReader{conn: c.conn}
	defer in.close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, replyLimit)
	for lines.Scan() {
		var m toKeeper
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			c.kill()
			return
		}
		switch {
		case m.Locked != nil:
			c.guard(m.Locked, in.take())
		case m.Ready:
			close(c.ready)
		case m.Log != "":
			c.logf("%s", m.Log)
		case m.Notice != nil:
			c.notes.Add(*m.Notice)
		default:
			select {
			case c.answers <- m:
			default: // nobody asked
			}
		}
	}
}
