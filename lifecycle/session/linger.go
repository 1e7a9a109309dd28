package session

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tokenfs/lifecycle/fault"
)

// A user manager ends some time after the last logout, and the filesystem with
// it, unless the user lingers. Where a lease or a long grace needs that, it is
// switched on, and off again afterwards. It outlasts a boot, so a note on disk
// says that it was us, for whoever comes after a crash.

// lingerNote is a file of this user on this machine: homes can be shared.
func lingerNote() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("note that lingering was switched on: %w", err)
		}
		dir = filepath.Join(home, ".local", "state")
	}
	machine, err := os.ReadFile("/etc/machine-id")
	name := strings.TrimSpace(string(machine))
	if err != nil || name == "" {
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("note that lingering was switched on: %w", err)
		}
	}
	return filepath.Join(dir, "tokenfs", "linger-"+name), nil
}

func (l *logind) setLinger(uid int, on bool) error {
	return l.callWithin(lingerLimit, logindPath, logindManager+".SetUserLinger", uint32(uid), on, false).Err
}

// switchOn has the user linger.
func (l *logind) switchOn(uid int) error {
	note, err := lingerNote()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(note), 0o700); err != nil {
		return fmt.Errorf("note that lingering was switched on: %w", err)
	}
	const text = "tokenfs switched lingering on for this user, and will switch it off\n"
	if err := os.WriteFile(note, []byte(text), 0o600); err != nil {
		return fmt.Errorf("note that lingering was switched on: %w", err)
	}
	if err := l.setLinger(uid, true); err != nil {
		os.Remove(note)
		return err
	}
	os.WriteFile(note, []byte(text+lingersSince(uid)), 0o600)
	return nil
}

// switchOff puts back what switchOn did, unless its user has asked for lingering
// meanwhile.
func (l *logind) switchOff(uid int) error {
	note, err := lingerNote()
	if err != nil {
		return err
	}
	said, err := os.ReadFile(note)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, ours, _ := strings.Cut(string(said), "\n")
	if ours == "" || ours == lingersSince(uid) {
		if err := l.setLinger(uid, false); err != nil {
			return fmt.Errorf("switch lingering off again: %w: loginctl disable-linger does it", err)
		}
	}
	if err := os.Remove(note); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// lingersSince says when lingering was last asked for: then logind touches a
// file. It is empty where that cannot be known.
func lingersSince(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	for _, dir := range []string{"/var/lib/systemd/linger/", "/var/lib/elogind/linger/"} {
		if st, err := os.Stat(dir + u.Username); err == nil {
			return st.ModTime().UTC().Format(time.RFC3339Nano)
		}
	}
	return ""
}

// PutBackLinger undoes what a keeper did that could not undo it itself.
func PutBackLinger() error {
	note, err := lingerNote()
	if err != nil {
		return nil // then nobody can have noted anything
	}
	if _, err := os.Lstat(note); err != nil {
		return nil
	}
	bus, err := openLogind(busLimit)
	if err != nil {
		return fmt.Errorf("switch lingering off again: %w", err)
	}
	defer bus.close()
	return bus.switchOff(os.Geteuid())
}

func (s *Session) putBackLinger() {
	if s.state.Lingers { // before an upgrade, and for leases that go on
		return
	}
	if err := PutBackLinger(); err != nil {
		s.logf("%v", err)
	}
}

func (s *Session) setLingers(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Lingers = on
}

// inLoginSession says whether a process belongs to a login session, in whose
// cgroup it is: as long as it lives, so does the user manager.
func inLoginSession(pid int) bool {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(groups), "/session-")
}

// lingerFor has the user linger if a lease needs that. It is called with
// lingering held.
func (s *Session) lingerFor(l *lease) error {
	s.mu.Lock()
	bus, follows := s.bus, s.state.Follows && !s.state.Counts
	s.mu.Unlock()
	if !follows { // or without a logind that could take anything away
		return nil
	}
	if bus == nil {
		return fmt.Errorf("hold: logind does not answer, so nothing can be promised: try again")
	}
	outlasts := inLoginSession(os.Getpid()) || l.PID != 0 && inLoginSession(l.PID)
	if outlasts {
		v, err := bus.property(logindPath, logindManager, "KillUserProcesses")
		if err != nil {
			return fmt.Errorf("hold: ask logind: %w", err)
		}
		if kills, _ := v.Value().(bool); kills {
			return fault.Errorf(fault.Unsupported, "hold: this machine ends every process of a login with it (KillUserProcesses=yes in logind.conf): systemd-run --user --scope tokenfs hold -- COMMAND is not ended, where the filesystem is tokenfs.service")
		}
		return nil
	}
	l.Linger = true
	if s.state.Lingers {
		return nil
	}
	already, err := bus.lingers(s.uid)
	if err == nil && !already {
		err = bus.switchOn(s.uid)
		s.setLingers(err == nil)
	}
	if err != nil {
		return fault.Errorf(fault.Unsupported, "hold: not possible, for services end with the last logout here and lingering is refused: %w: as root try loginctl enable-linger, or hold a command: tokenfs hold -- COMMAND", err)
	}
	return nil
}

// arrangeLinger switches lingering on for a grace that is longer than the life
// of the user manager, and off when nothing needs it.
func (s *Session) arrangeLinger() {
	s.lingering.Lock()
	defer s.lingering.Unlock()
	st := s.HandOn()
	s.mu.Lock()
	bus := s.bus
	s.mu.Unlock()
	if bus == nil || !st.Follows {
		return
	}
	needed := false
	for _, l := range st.Leases {
		needed = needed || l.Linger
	}
	select {
	case <-s.over:
	default:
		needed = needed || st.Left != 0 && !st.AtLogout.Keep && st.Stays && s.outlastedBy(bus, st.AtLogout.Grace)
	}
	var err error
	switch {
	case needed && !st.Lingers:
		var already bool
		if already, err = bus.lingers(s.uid); err == nil && !already {
			if err = bus.switchOn(s.uid); err == nil {
				s.setLingers(true)
			} else {
				err = fmt.Errorf("a grace of %v ends with the user manager, because lingering is refused: %w", st.AtLogout.Grace, err)
			}
		}
	case !needed && st.Lingers:
		err = bus.switchOff(s.uid)
		s.setLingers(false) // if that failed, the note stays, and is looked at again at the next start
	}
	if err != nil {
		s.logf("%v", err)
	}
}

// outlastedBy says whether the user manager ends before the grace does.
func (s *Session) outlastedBy(bus *logind, grace time.Duration) bool {
	v, err := bus.property(logindPath, logindManager, "UserStopDelayUSec")
	delay, ok := v.Value().(uint64)
	return err == nil && ok && grace > time.Duration(min(delay, uint64(MaxHold/time.Microsecond)))*time.Microsecond
}
