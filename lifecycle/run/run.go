package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
)

// A filesystem for one process tree: see Command.
//
//	tokenfs run   waits for the command and passes signals on to it
//	  keeper      a daemon like any other; ends with tokenfs run, however that ends
//	    worker
//	  launcher    in namespaces of its own; becomes the command
//
// The keeper stays outside the namespaces: inside, all that keeps its user from
// looking into it would be undone by owning the user namespace.

// Private says whether the mount is to be in a namespace of its own.
type Private int

const (
	PrivateAuto    Private = iota // where this machine lets us
	PrivateRequire                // or fail
	PrivateOff
)

// A Command is a program to be run with a filesystem that is there for it and
// its descendants, and is wiped when it ends.
type Command struct {
	Argv         []string
	Mountpoint   string // empty: the default one
	Private      Private
	MountOptions []string
	Daemon       func(mountpoint string) (argv []string) // its command line
	Warnf        func(format string, args ...any)

	place  place
	keeper *process.Starting
	tree   *launched
}

// Run runs the command to its end and returns its status as a shell tells it.
func (c *Command) Run() (status int, err error) {
	// Keeper and launcher are children of this thread, and the keeper ends with it.
	runtime.LockOSThread()
	received := process.CollectSignals()
	if c.place, err = findPlace(c.Mountpoint); err != nil {
		return 0, err
	}
	defer c.place.remove()
	if err := c.launch(); err != nil {
		return 0, err
	}
	if err := c.serve(); err != nil {
		return 0, errors.Join(err, c.tree.abandon(), c.end())
	}
	go process.PassOn(received, c.tree.pidfd)
	status = c.tree.wait()
	return status, c.end()
}

// launch starts the launcher, in namespaces if possible.
func (c *Command) launch() (err error) {
	if c.Private != PrivateOff {
		c.tree, err = c.launchPrivate()
		var refused *mount.Refused
		switch {
		case !errors.As(err, &refused):
			return err
		case c.Private == PrivateRequire:
			return fault.Errorf(fault.Unsupported, "a namespace of its own is refused here: %w", err)
		}
		c.Warnf("no namespace of its own: %v: so the mount on %s is an ordinary one, for all your processes to see", err, c.place.point)
	}
	if c.place.point, err = mount.Canonical(c.place.point); err != nil {
		return err
	}
	c.tree, err = c.startLauncher(launchOrder{Env: c.place.env}, &syscall.SysProcAttr{})
	return err
}

func (c *Command) launchPrivate() (*launched, error) {
	p := c.place.private()
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	order := launchOrder{Private: &p.mount, Env: p.env}
	sets, err := process.CapabilitySets()
	if err != nil {
		return nil, err
	}
	order.Keep = [2]uint32{sets[0].Permitted, sets[1].Permitted}
	if os.Geteuid() != 0 || !process.IsCapable(unix.CAP_SYS_ADMIN) {
		uid, gid := os.Geteuid(), os.Getegid()
		// Nobody but root may set the ids of a child whose program its user
		// cannot read. This process has nothing to hide.
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
		}
		attr.Cloneflags |= unix.CLONE_NEWUSER
		order.Private.User = true
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return c.startLauncher(order, attr)
}

// launched is the launcher, and then the command, as tokenfs run sees it.
type launched struct {
	pid, pidfd int
	conn       *net.UnixConn
	answer     launchAnswer
	order      launchOrder
}

// startLauncher returns when it has a place to mount, or has nothing to mount.
func (c *Command) startLauncher(order launchOrder, attr *syscall.SysProcAttr) (_ *launched, err error) {
	h, theirs, err := handover.New()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	t := &launched{order: order}
	attr.PidFD = &t.pidfd
	end := int(theirs.Fd())
	t.pid, err = syscall.ForkExec(process.Program, append([]string{"tokenfs", "run", "--"}, c.Argv...), &syscall.ProcAttr{
		Env:   append(os.Environ(), fmt.Sprintf("%s=%d", launcherVar, end)),
		Files: append(inheritable(end), uintptr(end)),
		Sys:   attr,
	})
	theirs.Close()
	if err != nil {
		err = fmt.Errorf("make a namespace: %w", err)
		if attr.Cloneflags == 0 {
			return nil, err
		}
		return nil, &mount.Refused{Err: err}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.abandon())
		}
	}()
	if t.conn, err = h.Accept(process.Handle{Pid: t.pid, Fd: t.pidfd}); err != nil {
		return nil, err
	}
	if err := handover.SendState(t.conn, order); err != nil {
		return nil, err
	}
	fds, err := handover.ReceiveWithin(t.conn, handover.NoDeadline, &t.answer, 0, 2)
	if err != nil {
		return nil, fmt.Errorf("the launcher did not say whether there is a place to mount: %w", err)
	}
	defer process.CloseAll(fds)
	if a := t.answer; a.Error != "" {
		err := fault.Errorf(a.Kind, "%s", a.Error)
		if a.Refused {
			err = &mount.Refused{Err: err}
		}
		return nil, err
	}
	if len(fds) > 0 { // before there is a keeper
		if err := mount.CheckDevice(); err != nil {
			return nil, err
		}
		if err := mount.NamespacesFrom(fds).Enterable(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// inheritable are the descriptors below limit that the caller left open for the
// command, each in its place.
func inheritable(limit int) (files []uintptr) {
	for fd := range limit {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			files = append(files, ^uintptr(0)) // closed
		} else {
			files = append(files, uintptr(fd))
		}
	}
	return files
}

// abandon ends a launcher that has not become the command.
func (t *launched) abandon() error {
	if t.conn != nil {
		t.conn.Close()
		// It ends by itself then, and takes its lock along.
		unix.Poll([]unix.PollFd{{Fd: int32(t.pidfd), Events: unix.POLLIN}}, int(time.Second/time.Millisecond))
	}
	unix.PidfdSendSignal(t.pidfd, unix.SIGKILL, nil, 0)
	t.wait()
	return unix.Close(t.pidfd)
}

// wait returns the command's status when it has ended: what is above 128 is
// the signal that killed it.
func (t *launched) wait() int {
	for {
		var info process.Siginfo
		switch err := process.Waitid(t.pid, &info, unix.WEXITED|unix.WSTOPPED); {
		case err == unix.EINTR:
		case err != nil:
			return process.StatusSignal
		case info.Code == process.CldStopped:
			process.StopLike()
		case info.Code == process.CldExited:
			return int(info.Status)
		default:
			return process.StatusSignal + int(info.Status)
		}
	}
}

// startKeeper starts it, and tells a launcher that has a mount for it.
func (c *Command) startKeeper() error {
	what := Keeper{Command: true, Remove: c.place.made}
	private := c.tree.order.Private
	if private == nil {
		keeper, err := c.beginKeeper(what, c.place.point)
		keeper.Close()
		return err
	}
	h, theirs, err := handover.New()
	if err != nil {
		return err
	}
	defer h.Close()
	defer theirs.Close()
	giver, err := h.File()
	if err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	defer giver.Close()
	what.Socket, what.Handover = private.Socket, process.ExtraFD
	keeper, err := c.beginKeeper(what, private.Point, theirs)
	if err != nil {
		return err
	}
	defer keeper.Close()
	if err := handover.SendState(c.tree.conn, launchGo{keeper.Pid}, int(giver.Fd()), keeper.Fd); err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	return nil
}

func (c *Command) beginKeeper(what Keeper, point string, files ...*os.File) (keeper process.Handle, err error) {
	keeper.Fd = -1
	text, err := json.Marshal(what)
	if err != nil {
		return keeper, err
	}
	cmd := process.Command(c.Daemon(point))
	cmd.Env = append(cmd.Env, KeeperVar+"="+string(text))
	cmd.ExtraFiles = files
	cmd.SysProcAttr.Pdeathsig = unix.SIGTERM // it tidies up
	cmd.SysProcAttr.PidFD = &keeper.Fd
	if c.keeper, err = process.Begin(cmd); err == nil {
		keeper.Pid = cmd.Process.Pid
	}
	return keeper, err
}

// serve starts the keeper and lets the launcher go on.
func (c *Command) serve() (err error) {
	if err := c.startKeeper(); err != nil {
		return err
	}
	started, err := c.keeper.Await()
	if err != nil {
		return err
	}
	if !started {
		c.keeper = nil
		return fault.Errorf(fault.Mountpoint, "%s is mounted already, and without a namespace of its own nothing can take its place: name another directory with --mountpoint, or do without tokenfs run", c.place.point)
	}
	if err := handover.SendState(c.tree.conn, launchGo{}); err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	return c.tree.conn.Close()
}

// endTimeout is longer than any keeper takes for its end: it ends itself before.
const endTimeout = 15 * time.Second

// end wipes: the keeper destroys the keys first, and then itself.
func (c *Command) end() error {
	if c.keeper == nil {
		return nil
	}
	p := c.keeper.Cmd.Process
	p.Signal(unix.SIGTERM)
	late := time.AfterFunc(endTimeout, func() { p.Kill() })
	defer late.Stop()
	var exit *exec.ExitError
	if err := c.keeper.Cmd.Wait(); errors.As(err, &exit) {
		return fmt.Errorf("the daemon ended before, or badly (%v), and with it the keys: what the command wrote since was lost", exit)
	}
	return nil
}
