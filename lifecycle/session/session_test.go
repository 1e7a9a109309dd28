package session

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

func testSession(t *testing.T, at AtLogout) *Session {
	return New(1000, State{Follows: true, Stays: true, AtLogout: at}, func() {}, t.Logf)
}

func TestSessionEnds(t *testing.T) {
	const grace = 10 * time.Second
	type step struct {
		at     time.Duration
		logins int
		next   time.Duration
		finish bool
	}
	for name, c := range map[string]struct {
		AtLogout
		steps []step
	}{
		"after the grace": {AtLogout{Grace: grace}, []step{
			{1 * time.Second, 1, 0, false}, {20 * time.Second, 2, 0, false}, {30 * time.Second, 1, 0, false},
			{40 * time.Second, 0, 50 * time.Second, false}, {45 * time.Second, 0, 50 * time.Second, false},
			{50 * time.Second, 0, 0, true}, {60 * time.Second, 0, 0, false}}},
		"at once":              {AtLogout{}, []step{{1, 1, 0, false}, {2, 0, 0, true}, {3, 0, 0, false}}},
		"again and again":      {AtLogout{}, []step{{1, 1, 0, false}, {2, 0, 0, true}, {3, 1, 0, false}, {4, 0, 0, true}}},
		"not within the grace": {AtLogout{Grace: grace}, []step{{1, 1, 0, false}, {2, 0, 2 + grace, false}, {3, 1, 0, false}, {2 + grace, 1, 0, false}, {30 * time.Second, 0, 40 * time.Second, false}}},
		"late, after a suspend": {AtLogout{Grace: grace}, []step{
			{1, 1, 0, false}, {2, 0, 2 + grace, false}, {time.Hour, 0, 0, true}}},
		"never if it is kept":          {AtLogout{Keep: true}, []step{{1, 1, 0, false}, {2, 0, 0, false}, {3, 0, 0, false}}},
		"never before somebody was in": {AtLogout{}, []step{{1, 0, 0, false}, {2, -1, 0, false}, {3, 0, 0, false}}},
		"never while it is not known":  {AtLogout{}, []step{{1, 1, 0, false}, {2, -1, 0, false}, {3, 1, 0, false}, {4, -1, 0, false}, {5, 0, 0, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := testSession(t, c.AtLogout)
			for i, st := range c.steps {
				s.logins = st.logins
				next, finish := s.decide(st.at)
				if next != st.next || finish != st.finish {
					t.Errorf("step %d, at %v with %d logins: next %v, finish %v; want %v, %v", i, st.at, st.logins, next, finish, st.next, st.finish)
				}
			}
		})
	}
}

func TestLeaseHoldsTheSession(t *testing.T) {
	s := testSession(t, AtLogout{Grace: time.Second})
	s.state.Follows = false // nobody is asked about lingering
	s.logins = 1
	s.decide(bootNow())
	l, err := s.Hold(time.Minute, 0, "")
	if err != nil || l.ID != 1 || l.Until == nil || time.Until(*l.Until) > time.Minute || time.Until(*l.Until) < 50*time.Second {
		t.Fatalf("%+v, %v", l, err)
	}
	s.logins = 0
	left := bootNow()
	if next, finish := s.decide(left); finish || next < left+50*time.Second {
		t.Errorf("at the logout: next in %v, finish %v", next-left, finish)
	}
	if _, finish := s.decide(left + 30*time.Second); finish {
		t.Error("it ended before the lease")
	}
	if _, finish := s.decide(left + time.Hour); !finish || len(s.Status().Leases) != 0 {
		t.Errorf("it did not end with the lease: %+v", s.Status())
	}

	s.logins = 0
	s.Hold(time.Minute, 0, "")
	s.Hold(time.Minute, 0, "")
	if n := s.Release(7); n != 0 {
		t.Errorf("released %d", n)
	}
	if n := s.Release(2); n != 1 {
		t.Errorf("released %d", n)
	}
	s.decide(left)
	if n := s.Release(0); n != 1 {
		t.Errorf("released %d", n)
	}
	if _, finish := s.decide(left + 2*time.Second); !finish {
		t.Error("a lease of services without a login did not end in a wipe")
	}
	for range maxLeases {
		s.Hold(time.Minute, 0, "")
	}
	if _, err := s.Hold(time.Minute, 0, ""); fault.KindOf(err) != fault.BadRequest {
		t.Errorf("one lease too many: %v", err)
	}
}

func TestReleaseLeavesWhatWasHandedOn(t *testing.T) {
	s := testSession(t, AtLogout{})
	s.state.Follows = false
	s.Hold(time.Minute, 0, "")
	s.Hold(time.Minute, 0, "")
	st := s.HandOn()
	s.Release(1)
	if len(st.Leases) != 2 || st.Leases[0].ID != 1 || st.Leases[1].ID != 2 {
		t.Errorf("handed on: %+v", st.Leases)
	}
}

func TestLeaseOfAProcess(t *testing.T) {
	s := testSession(t, AtLogout{})
	s.state.Follows = false
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Process.Kill()
	l, err := s.Hold(0, sleep.Process.Pid, "sleep")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Status().Leases; len(got) != 1 || got[0].PID != sleep.Process.Pid || got[0].Command != "sleep" || got[0].Until != nil {
		t.Errorf("status %+v", got)
	}

	// An upgrade finds it again, and not what has its pid now.
	after := New(1000, s.HandOn(), func() {}, t.Logf)
	after.state.Leases = append(after.state.Leases, lease{ID: 2, PID: sleep.Process.Pid, Start: "1"})
	after.ResumeLeases()
	if got := after.Status().Leases; len(got) != 1 || got[0].ID != l.ID {
		t.Errorf("after an upgrade: %+v", got)
	}
	unix.Kill(sleep.Process.Pid, unix.SIGKILL)
	sleep.Wait()
	for deadline := time.Now().Add(10 * time.Second); len(s.Status().Leases)+len(after.Status().Leases) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lease did not end with its process")
		}
	}
	if _, err := s.Hold(0, sleep.Process.Pid, "gone"); err == nil {
		t.Error("a lease for a process that is gone")
	}
}

func TestBootTimer(t *testing.T) {
	timer, err := newBootTimer()
	if err != nil {
		t.Fatal(err)
	}
	defer timer.stop()
	start := bootNow()
	timer.set(start + 50*time.Millisecond)
	<-timer.c
	if took := bootNow() - start; took < 50*time.Millisecond {
		t.Errorf("went off after %v", took)
	}
	timer.set(1) // long ago
	<-timer.c
	timer.set(bootNow() + time.Hour)
	timer.set(0)
	select {
	case <-timer.c:
		t.Error("went off after it was set to never")
	case <-time.After(20 * time.Millisecond):
	}
}
