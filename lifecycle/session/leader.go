package session

import (
	"os"
	"slices"

	"tokenfs/lifecycle/fault"
)

// A leader is the process that has a login session where there is no logind to
// ask: the one that opened it through PAM. When it has ended, so has the
// session, whether or not it could still say so.
type leader struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // a pid alone can come again
}

// maxLeaders bounds what a program of the user's can make the keeper remember.
const maxLeaders = 256

// Login counts a session until its leader ends.
func (s *Session) Login(pid int) error {
	process, start, err := holdProcess(pid)
	if err != nil {
		return err
	}
	l := leader{pid, start}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.state.Leaders, l) || s.bus != nil {
		return process.Close() // logind knows better
	}
	if len(s.state.Leaders) >= maxLeaders {
		process.Close()
		return fault.Errorf(fault.BadRequest, "there are %d login sessions already", maxLeaders)
	}
	s.state.Leaders = append(s.state.Leaders, l)
	s.state.Follows, s.state.Counts = true, true
	s.logins = len(s.state.Leaders)
	s.state.Used, s.state.Left = true, 0 // also if it ends at once
	go s.logoutAfter(l, process)
	s.look()
	return nil
}

// logoutAfter ends a session with its leader.
func (s *Session) logoutAfter(l leader, process *os.File) {
	if err := awaitEnd(process); err != nil {
		s.logf("wait for login session of process %d: %v", l.PID, err)
	}
	s.logout(l)
}

func (s *Session) logout(l leader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Leaders = slices.DeleteFunc(s.state.Leaders, func(known leader) bool { return known == l })
	s.look()
}

// ResumeLeaders finds the processes again after an upgrade.
func (s *Session) ResumeLeaders() {
	s.mu.Lock()
	leaders := slices.Clone(s.state.Leaders)
	s.mu.Unlock()
	for _, l := range leaders {
		process, start, err := holdProcess(l.PID)
		if err == nil && start == l.Start {
			go s.logoutAfter(l, process)
			continue
		}
		if err == nil {
			process.Close()
		}
		s.logout(l)
	}
}
