package session

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Where the system bus and logind are. The caller's environment is not asked: with
// DBUS_SYSTEM_BUS_ADDRESS any program could say that nobody has logged out.
var (
	systemBus = "/run/dbus/system_bus_socket"
	// logindFiles change when a session does, also when its state becomes
	// "closing", for which there is no signal. What is in them is not for us.
	logindFiles = "/run/systemd/sessions"
	// systemdRuns is there where systemd is the first process: see sd_booted(3).
	systemdRuns = "/run/systemd/system"
)

// errNoLogind is a machine without it: where neither logind nor elogind has ever
// made its directory, or where there is no bus and no systemd, as in the images of
// many containers, which have the directory from the installation. A bus that
// refuses, or does not answer, is no such machine: it may do so just now.
var errNoLogind = errors.New("there is no logind here")

// connectBus connects to the system bus within a limit.
func connectBus(limit time.Duration) (*dbus.Conn, error) {
	missing := func(path string) bool { _, err := os.Stat(path); return errors.Is(err, os.ErrNotExist) }
	if missing(logindFiles) {
		return nil, errNoLogind
	}
	conn, err := net.DialTimeout("unix", systemBus, limit)
	if errors.Is(err, os.ErrNotExist) && missing(systemdRuns) {
		return nil, errNoLogind
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	conn.SetDeadline(time.Now().Add(limit))
	bus, err := dbus.NewConn(stream{bufio.NewReader(conn), conn})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	if err = bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err == nil {
		err = bus.Hello()
	}
	if err != nil {
		bus.Close()
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	return bus, conn.SetDeadline(time.Time{})
}

// A stream is a connection that godbus does not know for a Unix socket. Its own
// code for these, which descriptors could come by, panics where receiving fails in
// the middle of a message.
type stream struct {
	in *bufio.Reader
	net.Conn
}

func (s stream) Read(b []byte) (int, error) { return s.in.Read(b) }

// watchFiles looks when a session's file changes. A user's programs may have used
// up what the kernel lets one user watch: then it looks again and again.
func (l *logind) watchFiles() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		l.files = os.NewFile(uintptr(fd), "inotify")
		_, err = unix.InotifyAddWatch(fd, logindFiles, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_DELETE)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return errNoLogind
	case err != nil:
		go l.lookAgain()
	default:
		go l.readFiles()
	}
	return nil
}

func (l *logind) readFiles() {
	for events := make([]byte, 4096); ; {
		if _, err := l.files.Read(events); err != nil {
			return
		}
		l.look()
	}
}

func (l *logind) lookAgain() {
	again := time.NewTicker(logindRetry)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			l.look()
		case <-l.lost:
			return
		}
	}
}
