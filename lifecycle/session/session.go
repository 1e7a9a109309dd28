package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"tokenfs/lifecycle/process"
)

// AtLogout is what happens after the last login session of a user.
type AtLogout struct {
	Keep  bool          `json:"keep,omitempty"` // nothing
	Grace time.Duration `json:"grace"`          // a wipe, so much later
}

// busLimit is how long logind may take for an answer that no login waits for.
const busLimit = 2 * time.Second

// DefaultGrace is as long as systemd lets a user manager live on.
const DefaultGrace = 10 * time.Second

// A session decides when what is held ends: it follows the user's logins, and
// knows who holds the filesystem beyond them.
type Session struct {
	uid    int
	logf   func(format string, args ...any)
	finish func()        // destroys what is held; the filesystem may end with it
	over   chan struct{} // closed when nothing is left to decide
	ended  chan struct{} // closed when run has returned

	lingering sync.Mutex // while that is asked about and changed; comes before mu

	mu      sync.Mutex
	state   State
	logins  int     // -1 while that is not known
	bus     *logind // nil while there is none
	changed chan struct{}
}

// State is what an upgrade hands on. Times are on the clock of bootNow.
type State struct {
	Follows  bool          `json:"follows"` // a logout ends it
	Stays    bool          `json:"stays"`   // empty, after that
	AtLogout AtLogout      `json:"at_logout"`
	Used     bool          `json:"used"` // somebody logged in or held it since the last end
	Left     time.Duration `json:"left"` // when the last login ended; 0 if one is there
	Leases   []lease       `json:"leases"`
	LastID   int           `json:"last_id"`
	Lingers  bool          `json:"lingers"` // because of us
	Leaders  []leader      `json:"leaders,omitempty"`
	Counts   bool          `json:"counts,omitempty"` // leaders, as there is no logind
}

func New(uid int, state State, finish func(), logf func(string, ...any)) *Session {
	return &Session{uid: uid, state: state, finish: finish, logf: logf, logins: -1,
		over: make(chan struct{}), ended: make(chan struct{}), changed: make(chan struct{}, 1)}
}

// ErrNobody means that there is nobody to mount for.
var ErrNobody = errors.New("nobody has logged in")

// AwaitLogin waits until the user is there, for whose logins it is to be
// mounted. Whoever changed user with su may have started the user's services,
// and is not. Where there is no logind, or no answer to who waits for the mount,
// nobody waits for it.
func (s *Session) AwaitLogin(ctx context.Context, root bool) error {
	s.state.Follows = true
	if s.uid == 0 && !root {
		process.Notify("READY=1") // a service that ends before is a failed one
		return ErrNobody
	}
	var err error
	if s.bus, err = openLogind(logindLimit); err != nil {
		if s.state.Follows = !errors.Is(err, errNoLogind); s.state.Follows {
			s.unknown(err, true)
		}
		return nil
	}
	defer func() { s.bus.limit = busLimit }() // after that no login waits
	for waiting := false; ; waiting = true {
		n, greeter, err := s.bus.logins(s.uid)
		lingers := false
		if err == nil && n == 0 {
			lingers, err = s.bus.lingers(s.uid)
		}
		switch {
		case err != nil && waiting:
			s.bus.close()
		case err != nil:
			s.unknown(err, true)
			return nil
		case n > 0, lingers:
			if waiting {
				process.Notify("STATUS=")
			}
			return nil
		case greeter:
			process.Notify("READY=1")
			return ErrNobody
		case !waiting:
			process.Notify("READY=1\nSTATUS=waiting for a login")
		}
		select {
		case <-s.bus.changed:
		case <-s.bus.lost:
			s.bus.close()
			bus, err := reopenLogind(ctx)
			if err != nil {
				return ErrNobody
			}
			s.bus = bus
		case <-ctx.Done():
			return ErrNobody
		}
	}
}

// unknown is a start at which logind does not say who is logged in. It follows
// logins all the same, and asks again: if nobody is there by then, somebody who had
// used it has logged out meanwhile.
func (s *Session) unknown(err error, used bool) {
	s.logf("%v: mounted without knowing who is logged in", err)
	s.state.Used = used
}

// FollowLogins is for a filesystem that was started by hand, or for a leader: it ends
// with the logins only if it is at the place that every login has.
func (s *Session) FollowLogins(atDefault bool, leader int) error {
	s.state.Follows = atDefault && s.loggedIn(leader)
	if leader != 0 && !s.state.Follows {
		return s.Login(leader)
	}
	return nil
}

// Stays says whether the filesystem goes on, empty, after a logout.
func (s *Session) Stays() bool { return s.state.Stays }

// loggedIn says whether a daemon that was started by hand, or for a leader, belongs
// to a login that logind knows of.
func (s *Session) loggedIn(leader int) bool {
	bus, err := openLogind(logindLimit)
	if errors.Is(err, errNoLogind) {
		return false
	}
	n := 0
	if err == nil {
		if n, _, err = bus.logins(s.uid); err != nil || n == 0 {
			bus.close()
		}
	}
	switch {
	case err != nil && leader != 0:
		return false // that one can be counted without logind
	case err != nil:
		s.unknown(err, inLoginSession(os.Getpid()))
		return true
	case n == 0:
		return false
	}
	bus.limit = busLimit
	s.bus = bus
	return true
}

// Run decides, again and again, until over.
func (s *Session) Run() {
	defer close(s.ended)
	timer, err := newBootTimer()
	if err != nil {
		s.logf("%v: it will not end at a logout, nor will leases expire", err)
		<-s.over
		return
	}
	defer timer.stop()
	s.putBackLinger()
	for retry := time.Second; ; {
		again := s.ask()
		next, finish := s.decide(bootNow())
		if finish {
			s.finish()
		}
		s.arrangeLinger()
		if again { // the bus was lost, and may come back
			if at := bootNow() + retry; next == 0 || at < next {
				next = at
			}
			retry = min(2*retry, logindRetry)
		} else {
			retry = time.Second
		}
		timer.set(next)
		var busChanged, busLost chan struct{}
		if s.bus != nil {
			busChanged, busLost = s.bus.changed, s.bus.lost
		}
		select {
		case <-busChanged:
		case <-busLost:
			s.Disconnect()
		case <-s.changed:
		case <-timer.c:
		case <-s.over:
			s.mu.Lock()
			s.state.Leases = nil
			s.mu.Unlock()
			s.arrangeLinger()
			s.Disconnect()
			return
		}
	}
}

// ask brings logins up to date, and says whether to try again soon.
func (s *Session) ask() (again bool) {
	s.mu.Lock()
	follows, counts := s.state.Follows, s.state.Counts
	if counts {
		s.logins = len(s.state.Leaders)
	}
	s.mu.Unlock()
	if !follows || counts {
		return false
	}
	if s.bus == nil {
		bus, err := openLogind(busLimit)
		if err != nil { // not even if there is none now: it was there before
			return true
		}
		s.mu.Lock()
		s.bus = bus
		s.mu.Unlock()
	}
	n, _, err := s.bus.logins(s.uid)
	if err != nil {
		s.Disconnect()
		return true
	}
	s.mu.Lock()
	s.logins = n
	s.mu.Unlock()
	return false
}

func (s *Session) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bus != nil {
		s.bus.close()
		s.bus = nil
	}
	s.logins = -1
}

// decide says whether it is over, and else when to look again; 0 means when
// something changes.
func (s *Session) decide(now time.Duration) (next time.Duration, finish bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.state
	s.expire(now)
	switch {
	case s.logins > 0:
		if st.Left != 0 {
			s.logf("a login session came before the end")
		}
		st.Used, st.Left = true, 0
	case s.logins == 0 && st.Used && st.Left == 0:
		st.Left = now
		s.logf("the last login session ended")
	}
	if st.Left != 0 && len(st.Leases) == 0 {
		if end := st.Left + st.AtLogout.Grace; now < end {
			next = end
		} else {
			st.Used, st.Left = false, 0
			finish = !st.AtLogout.Keep
		}
	}
	for _, l := range st.Leases {
		if l.Until != 0 && (next == 0 || l.Until < next) {
			next = l.Until
		}
	}
	return next, finish
}

func (s *Session) look() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Stop returns when what was changed outside has been put back.
func (s *Session) Stop() {
	close(s.over)
	select {
	case <-s.ended:
	case <-time.After(busLimit):
	}
}

// HandOn is what to go on from, at this moment.
func (s *Session) HandOn() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Leases = slices.Clone(st.Leases) // they are changed in place
	st.Leaders = slices.Clone(st.Leaders)
	return st
}

// Status is what the end of the session depends on.
type Status struct {
	Follows  bool    `json:"follows_logins"`
	Logins   int     `json:"logins"` // -1: not known
	OnLogout string  `json:"on_logout"`
	Grace    float64 `json:"grace_seconds"`
	Leases   []Lease `json:"leases"`
}

func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Follows: s.state.Follows, Logins: s.logins, OnLogout: "wipe",
		Grace: s.state.AtLogout.Grace.Seconds(), Leases: []Lease{}}
	if s.state.AtLogout.Keep {
		st.OnLogout = "keep"
	}
	for _, l := range s.state.Leases {
		st.Leases = append(st.Leases, l.public())
	}
	return st
}
