package session

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"
)

// Sessions are counted by the processes that opened them, each once, until they
// end in whatever way.
func TestLeadersAreTheSessions(t *testing.T) {
	s := testSession(t, AtLogout{})
	s.state = State{}
	start := func() (pid int, end func()) {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end = func() { cmd.Process.Kill(); cmd.Wait() }
		t.Cleanup(end)
		return cmd.Process.Pid, end
	}
	logins := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if s.ask() {
				t.Fatal("it asks somebody else")
			}
			s.mu.Lock()
			got := s.logins
			s.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d sessions, want %d", got, want)
			}
		}
	}
	first, endFirst := start()
	second, endSecond := start()
	for _, pid := range []int{first, second, first} {
		if err := s.Login(pid); err != nil {
			t.Fatal(err)
		}
	}
	logins(2)
	if next, finish := s.decide(1); next != 0 || finish {
		t.Errorf("with two sessions: next %v, finish %v", next, finish)
	}

	// after an upgrade the same ones are followed, but for a pid that came again.
	after := testSession(t, AtLogout{})
	if line, err := json.Marshal(s.HandOn()); err != nil || json.Unmarshal(line, &after.state) != nil {
		t.Fatalf("%s, %v", line, err)
	}
	after.state.Leaders = append(after.state.Leaders, leader{first, "1"})
	after.ResumeLeaders()
	s = after
	logins(2)

	endFirst()
	logins(1)
	if _, finish := s.decide(2); finish {
		t.Error("over with one session left")
	}
	endSecond()
	logins(0)
	if _, finish := s.decide(3); !finish {
		t.Error("not over without a session")
	}
	if err := s.Login(second); err == nil {
		t.Error("a process that has ended has a session")
	}
}
