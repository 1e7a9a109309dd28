package session

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// A lease keeps what is held beyond the last logout, until a time or for as
// long as a process lives.
type lease struct {
	ID    int           `json:"id"`
	Since time.Time     `json:"since"`
	Until time.Duration `json:"until,omitempty"` // as bootNow
	PID   int           `json:"pid,omitempty"`
	Start string        `json:"start,omitempty"` // when PID was started: a pid alone can come again
	Name  string        `json:"name,omitempty"`  // what it runs

	Linger bool `json:"linger,omitempty"` // needed, so that it outlives the user manager
}

// A Lease is one as status shows it.
type Lease struct {
	ID      int        `json:"id"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until,omitempty"`
	PID     int        `json:"pid,omitempty"`
	Command string     `json:"command,omitempty"`
}

func (l lease) public() Lease {
	p := Lease{ID: l.ID, Since: l.Since.UTC(), PID: l.PID, Command: l.Name}
	if l.Until != 0 {
		until := time.Now().Add(l.Until - bootNow()).UTC().Truncate(time.Second)
		p.Until = &until
	}
	return p
}

const (
	// MaxHold is how long a lease may be.
	MaxHold = 30 * 24 * time.Hour
	// MaxCommandName is for a lease of a command, in bytes.
	MaxCommandName = 64
	maxLeases      = 16
)

// Hold adds a lease, for a time or else for a process, the peer of the request.
func (s *Session) Hold(d time.Duration, pid int, name string) (Lease, error) {
	l := lease{Since: time.Now(), Name: name}
	var process *os.File
	if d > 0 {
		l.Until = bootNow() + d
	} else {
		var err error
		if process, l.Start, err = holdProcess(pid); err != nil {
			return Lease{}, err
		}
		l.PID = pid
	}
	s.lingering.Lock()
	defer s.lingering.Unlock()
	if err := s.lingerFor(&l); err != nil {
		if process != nil {
			process.Close()
		}
		return Lease{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.state.Leases) >= maxLeases {
		if process != nil {
			process.Close()
		}
		return Lease{}, fault.Errorf(fault.BadRequest, "there are %d leases already: tokenfs release", maxLeases)
	}
	s.state.LastID++
	l.ID = s.state.LastID
	s.state.Leases = append(s.state.Leases, l)
	s.state.Used = true
	if process != nil {
		go s.releaseAfter(l.ID, process)
	}
	s.look()
	return l.public(), nil
}

// Release ends one lease, or all; it says how many that were.
func (s *Session) Release(id int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.state.Leases)
	s.state.Leases = slices.DeleteFunc(s.state.Leases, func(l lease) bool { return id == 0 || l.ID == id })
	s.look()
	return before - len(s.state.Leases)
}

// expire is called with mu held.
func (s *Session) expire(now time.Duration) {
	s.state.Leases = slices.DeleteFunc(s.state.Leases, func(l lease) bool {
		over := l.Until != 0 && l.Until <= now
		if over {
			s.logf("lease %d expired", l.ID)
		}
		return over
	})
}

// holdProcess returns a pidfd, and when the process was started.
func holdProcess(pid int) (process *os.File, start string, err error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, "", fmt.Errorf("process %d: %w", pid, err)
	}
	process = os.NewFile(uintptr(fd), "process "+strconv.Itoa(pid))
	if start, err = startOf(pid); err != nil {
		process.Close()
		return nil, "", err
	}
	return process, start, nil
}

// startOf is field 22 of /proc/PID/stat, see proc_pid_stat(5).
func startOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("process %d: %w", pid, err)
	}
	after := string(stat[strings.LastIndexByte(string(stat), ')')+1:]) // the name can hold anything
	if fields := strings.Fields(after); len(fields) > 19 {
		return fields[19], nil
	}
	return "", fmt.Errorf("process %d: no start time", pid)
}

// releaseAfter ends a lease with its process.
func (s *Session) releaseAfter(id int, process *os.File) {
	if err := awaitEnd(process); err != nil {
		s.logf("wait for the command of lease %d: %v", id, err)
	}
	if s.Release(id) > 0 {
		s.logf("lease %d ended with its command", id)
	}
}

// awaitEnd returns when the process has ended that a pidfd stands for.
func awaitEnd(process *os.File) error {
	defer process.Close()
	raw, err := process.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n == 1
	})
}

// ResumeLeases finds the processes again after an upgrade.
func (s *Session) ResumeLeases() {
	s.mu.Lock()
	leases := slices.Clone(s.state.Leases)
	s.mu.Unlock()
	for _, l := range leases {
		if l.PID == 0 {
			continue
		}
		process, start, err := holdProcess(l.PID)
		if err == nil && start == l.Start {
			go s.releaseAfter(l.ID, process)
			continue
		}
		if err == nil {
			process.Close()
		}
		s.Release(l.ID)
	}
}
