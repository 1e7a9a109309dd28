package run

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
)

// The launcher is the process that a command of tokenfs run begins as. In
// namespaces of its own it finds the place for the mount, which its keeper makes
// from outside (inside.go of package mount), and then executes the command in its own place, so that
// the command is a child of tokenfs run as it would be of a shell.

// launcherVar holds the number of the descriptor that is the launcher's end of a
// handover by the tokenfs run it is part of.
const launcherVar = "_TOKENFS_LAUNCHER"

// launchOrder is what a launcher is told first.
type launchOrder struct {
	Env     []string      `json:"env"`  // set for the command
	Keep    [2]uint32     `json:"keep"` // capabilities the command may have
	Private *privateMount `json:"private,omitempty"`
}

// privateMount is a mount in a namespace, as tokenfs run wants it.
type privateMount struct {
	Point   string `json:"point"`
	Socket  string `json:"socket"` // control socket, without its .sock; clients find it as the mount's source
	Runtime string `json:"runtime,omitempty"`
	Show    string `json:"show,omitempty"` // where the runtime directory is to be seen, too
	User    bool   `json:"user,omitempty"` // in a user namespace of its own, too
}

// launchAnswer is what it says when there is a place to mount, or none. With it
// come its namespaces if there is.
type launchAnswer struct {
	Error   string     `json:"error,omitempty"`
	Kind    fault.Kind `json:"kind,omitempty"`
	Refused bool       `json:"refused,omitempty"` // namespaces are, by this machine
}

// launchGo is the last word: the filesystem is being served. Before it, the
// same message says who will serve; with it come the giver's end of a handover to
// that process, and its pidfd.
type launchGo struct {
	Keeper int `json:"keeper"`
}

// ErrNoCommand is a command that cannot be executed; Err says why.
type ErrNoCommand struct {
	Name string
	Err  error
}

func (e *ErrNoCommand) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }
func (e *ErrNoCommand) Unwrap() error { return e.Err }

// NotFound says whether there is no such command, as opposed to one that
// cannot be executed.
func (e *ErrNoCommand) NotFound() bool {
	return errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, exec.ErrNotFound)
}

// Launching says whether this process is a launcher: then its main goes to
// Launch at once.
func Launching() bool { return os.Getenv(launcherVar) != "" }

// ErrLaunch means that a launcher has told tokenfs run why it failed.
var ErrLaunch = errors.New("not launched")

// Launch becomes the command; it returns only if that fails.
func Launch(argv []string) error {
	// Capabilities are the thread's that executes.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process unreadable: prctl PR_SET_DUMPABLE: %w", err)
	}
	end, err := strconv.Atoi(os.Getenv(launcherVar))
	os.Unsetenv(launcherVar)
	if err != nil {
		return fmt.Errorf("internal error: %s makes no sense", launcherVar)
	}
	conn, err := handover.Claim(end)
	if err != nil {
		return err
	}
	var order launchOrder
	if _, err := handover.ReceiveState(conn, &order, 0); err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	if err := order.prepare(conn); err != nil {
		return err
	}
	conn.Close()
	for _, v := range order.Env {
		name, value, _ := strings.Cut(v, "=")
		os.Setenv(name, value)
	}
	path, err := lookCommand(argv[0])
	if err != nil {
		return &ErrNoCommand{argv[0], err}
	}
	if err := process.DropCapabilities(order.Keep); err != nil {
		return err
	}
	return &ErrNoCommand{argv[0], unix.Exec(path, argv, os.Environ())}
}

// lookCommand is as execvp(3), which also finds what is in the working
// directory if PATH says so.
func lookCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil
	}
	var why *exec.Error
	if errors.As(err, &why) {
		err = why.Err
	}
	return path, err
}

// prepare returns when there is a filesystem, if one is ordered.
func (o *launchOrder) prepare(conn *net.UnixConn) error {
	l, err := o.land()
	var answer launchAnswer
	var fds []int
	if err == nil && l != nil {
		defer l.in.Close()
		fds = l.in.List()
	}
	if err != nil {
		refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
		answer = launchAnswer{Error: err.Error(), Kind: fault.KindOf(err), Refused: refused}
	}
	if err := handover.SendState(conn, answer, fds...); err != nil {
		return err
	}
	if err != nil {
		return ErrLaunch
	}
	var next launchGo
	if l != nil {
		ends, err := handover.ReceiveWithin(conn, handover.NoDeadline, &next, 2, 2)
		if err != nil {
			return ErrLaunch // it was not to be, and tokenfs run has said why
		}
		if err := l.haveMounted(ends, next.Keeper); err != nil {
			return err
		}
	}
	if handover.AwaitState(conn, &next) != nil {
		return ErrLaunch
	}
	return nil
}

// A landing is a place to mount in this process's own mount namespace.
type landing struct {
	path string
	in   mount.Namespaces
}

// land finds it, if a mount is ordered.
func (o *launchOrder) land() (l *landing, err error) {
	p := o.Private
	if p == nil {
		return nil, nil
	}
	// What is mounted outside is to appear here, but not the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("keep mounts inside the namespace: %w", err)
	}
	if p.Show != "" {
		if err := showRuntime(p.Runtime, p.Show); err != nil {
			return nil, err
		}
	}
	path, err := mount.Canonical(p.Point)
	if err != nil {
		return nil, err
	}
	if err := mount.CheckPlace(path); err != nil { // before there is a keeper
		return nil, err
	}
	in, err := mount.TheseNamespaces(p.User)
	return &landing{path, in}, err
}

// haveMounted has the keeper mount. It gets what it needs to know of the mount.
func (l *landing) haveMounted(ends []int, pid int) error {
	h, err := handover.Open(ends[0])
	if err != nil {
		return err
	}
	conn, err := h.Accept(process.Handle{Pid: pid, Fd: ends[1]})
	h.Close()
	unix.Close(ends[1])
	if err != nil {
		return err
	}
	defer conn.Close()
	st := Mounted{Path: l.path}
	m, err := l.mount(conn)
	if err != nil {
		st.Error = err.Error()
		handover.SendState(conn, st)
		return ErrLaunch // the keeper says why
	}
	defer m.Close()
	fds := []int{int(m.Table.Fd())}
	if m.Beneath != nil {
		fds = append(fds, int(m.Beneath.Fd()))
	}
	st.Entry = m.Entry
	if err := handover.SendState(conn, st, fds...); err != nil {
		return fmt.Errorf("tell the keeper of its mount: %w", err)
	}
	return nil
}

// mount has the keeper mount on a directory, or on the user's own tokenfs.
func (l *landing) mount(keeper *net.UnixConn) (m *mount.Mount, err error) {
	lock, err := mount.LockPlace(l.path)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	before, err := mount.Table()
	if err != nil {
		return nil, err
	}
	byKeeper := func(dir *os.File) (int, error) { return -1, l.ask(keeper, dir) }
	if e, found := mount.Top(before, l.path); !found {
		dir, err := mount.OpenDirectory(l.path)
		if err != nil {
			return nil, err
		}
		if m, err = mount.New(dir, l.path, byKeeper); err != nil {
			return nil, err
		}
	} else {
		if err := e.RefuseForeign(); err != nil {
			return nil, err
		}
		if err := l.ask(keeper, nil); err != nil {
			return nil, err
		}
		m = &mount.Mount{Path: l.path, Fd: -1}
		if m.Entry, err = mount.Identify(before, l.path); err != nil {
			return nil, err
		}
	}
	if m.Table, err = os.Open(mount.TablePath); err != nil {
		return nil, fmt.Errorf("mount table: %w", err)
	}
	return m, nil
}

// ask returns when the keeper has mounted on dir, or at the path where it is nil.
func (l *landing) ask(keeper *net.UnixConn, dir *os.File) error {
	fds := l.in.List()
	if dir != nil {
		fds = append(fds, int(dir.Fd()))
	}
	if err := handover.SendState(keeper, Offer{Path: l.path, Over: dir == nil, User: l.in.User >= 0}, fds...); err != nil {
		return fmt.Errorf("ask the keeper for a mount: %w", err)
	}
	var made Made
	if _, err := handover.ReceiveState(keeper, &made, 0); err != nil {
		return fmt.Errorf("ask the keeper for a mount: %w", err)
	}
	if made.Error != "" {
		return errors.New(made.Error)
	}
	return nil
}

// showRuntime makes the directory at from appear at, which is a name in a
// directory that only this namespace sees changed.
func showRuntime(from, at string) error {
	parent := filepath.Dir(at)
	if err := unix.Mount("tmpfs", parent, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("make %s: mount on %s: %w", at, parent, err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s at %s: %w", from, at, err)
	}
	return nil
}
