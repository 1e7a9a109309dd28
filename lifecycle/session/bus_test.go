package session

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testBus has the system bus and logind's files be elsewhere, where there is
// nothing yet.
func testBus(t *testing.T) {
	t.Helper()
	bus, files, runs := systemBus, logindFiles, systemdRuns
	t.Cleanup(func() { systemBus, logindFiles, systemdRuns = bus, files, runs })
	dir := t.TempDir()
	systemBus, logindFiles, systemdRuns = filepath.Join(dir, "bus"), filepath.Join(dir, "sessions"), filepath.Join(dir, "system")
}

// refuse leaves a socket that nobody listens at, as between two daemons.
func refuse(t *testing.T) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: systemBus, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// A machine has no logind if none has ever started on it. A bus that cannot be
// reached is no sign of that: a logout must wipe all the same.
func TestBusThatRefusesIsNotNoLogind(t *testing.T) {
	for name, c := range map[string]struct {
		logind, socket, systemd bool
		follows                 bool
	}{
		"nothing":                         {false, false, false, false},
		"a bus alone":                     {false, true, true, false},
		"an image that logind is in":      {true, false, false, false},
		"a bus that refuses":              {true, true, true, true},
		"a bus of elogind's that does so": {true, true, false, true},
		"no bus yet":                      {true, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			testBus(t)
			if c.logind {
				if err := os.Mkdir(logindFiles, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.systemd {
				if err := os.Mkdir(systemdRuns, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.socket {
				refuse(t)
			}
			s := New(1000, State{Follows: true, Stays: true}, func() {}, t.Logf)
			if err := s.AwaitLogin(t.Context(), false); err != nil || s.state.Follows != c.follows || s.bus != nil {
				t.Errorf("%v, follows logins %v, bus %v", err, s.state.Follows, s.bus)
			}
			if !c.follows {
				return
			}
			if again := s.ask(); !again || s.logins != -1 {
				t.Errorf("it asks again %v, and counts %d logins", again, s.logins)
			}
			if _, finish := s.decide(1); finish {
				t.Error("it wipes before anything is known")
			}
			s.logins = 0 // who was there has gone meanwhile
			if _, finish := s.decide(2); !finish {
				t.Error("a logout in between wipes nothing")
			}
		})
	}
	// By hand, in what is no login session's cgroup, somebody has to be seen first.
	testBus(t)
	if err := os.Mkdir(logindFiles, 0o755); err != nil {
		t.Fatal(err)
	}
	refuse(t)
	s := New(1000, State{}, func() {}, t.Logf)
	if !s.loggedIn(0) || s.state.Used != inLoginSession(os.Getpid()) {
		t.Errorf("by hand: %+v", s.state)
	}
	if s.loggedIn(1) {
		t.Error("a leader is not counted because a bus refuses")
	}
}

// The caller's environment says nothing of the bus.
func TestBusOfTheCallerIsNotAsked(t *testing.T) {
	testBus(t)
	if err := os.Mkdir(logindFiles, 0o755); err != nil {
		t.Fatal(err)
	}
	refuse(t)
	planted := filepath.Join(t.TempDir(), "bus")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: planted, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, name := range []string{"DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "DBUS_STARTER_ADDRESS"} {
		t.Setenv(name, "unix:path="+planted)
	}
	if bus, err := openLogind(time.Second); err == nil {
		bus.close()
		t.Error("a bus was found")
	}
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if _, _, err := unix.Accept(int(fd)); err != unix.EAGAIN { // it does not wait
			t.Errorf("the planted bus was asked: %v", err)
		}
	})
}

// A bus may end in the middle of a message, so that receiving it fails.
func TestBusEndsInTheMiddleOfAMessage(t *testing.T) {
	testBus(t)
	if err := os.Mkdir(logindFiles, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: systemBus, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		for line := ""; line != "BEGIN\r\n"; {
			for line = ""; !strings.HasSuffix(line, "\n"); { // and no byte more
				b := make([]byte, 1)
				if _, err := c.Read(b); err != nil {
					return
				}
				line += string(b)
			}
			switch {
			case strings.HasSuffix(line, "AUTH\r\n"): // after a first null byte
				c.Write([]byte("REJECTED EXTERNAL\r\n"))
			case strings.HasPrefix(line, "AUTH EXTERNAL"):
				c.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
			case strings.HasPrefix(line, "NEGOTIATE"):
				c.Write([]byte("AGREE_UNIX_FD\r\n"))
			}
		}
		// Hello comes, and is not read: that makes this a reset and not an end.
		raw, _ := c.(*net.UnixConn).SyscallConn()
		raw.Read(func(fd uintptr) bool {
			_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
			return err != unix.EAGAIN
		})
		c.Write([]byte("l\x02\x01\x01\x09\x00\x00\x00\x01\x00\x00\x00\x50\x00\x00\x00\x08\x01"))
		c.Close()
	}()
	if bus, err := openLogind(5 * time.Second); err == nil {
		bus.close()
		t.Error("that was a bus")
	} else if errors.Is(err, errNoLogind) {
		t.Error(err)
	}
}
