package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/process"
)

// An upgrade cannot be undone once the new program runs in the keeper's place:
// if it crashes there, all is lost. So it plays the whole of it beforehand, in a
// process of its own, with a filesystem that is nobody's: it takes the state
// over, maps the memory, starts a worker, and that agrees with the kernel of the
// mounted filesystem and serves. Only then is the real one handed to it.

// rehearsal is what the process that directs it is told; with it comes the
// program.
type rehearsal struct {
	Worker workerState `json:"worker"`
	Init   []byte      `json:"init"` // see fs.SavedInit
}

// rehearsalLimit bounds a rehearsal; who asked for the upgrade waits for it.
const rehearsalLimit = 2 * handover.Timeout

// rehearse says why a program cannot take over.
func (d *daemon) rehearse(program *os.File) error {
	c, err := d.worker.spawn(rehearsalRole)
	if err != nil {
		return err
	}
	defer func() {
		c.kill()
		<-c.died
		c.reap()
	}()
	conn, err := c.connect()
	if err != nil {
		return err
	}
	r := rehearsal{d.worker.begins(), fs.SavedInit(d.memory.Slots())}
	if err := handover.SendState(conn, r, int(program.Fd())); err != nil {
		return fmt.Errorf("arrange a rehearsal: %w", err)
	}
	var failed string
	if _, err := handover.ReceiveWithin(conn, rehearsalLimit+handover.Timeout, &failed, 0, 0); err != nil {
		return fmt.Errorf("hear of the rehearsal: %w", err)
	}
	if failed != "" {
		return errors.New(failed)
	}
	return nil
}

// beRehearsal directs one, being holder and kernel to the new program.
func beRehearsal(conn *net.UnixConn) error {
	var r rehearsal
	fds, err := handover.ReceiveState(conn, &r, 1)
	if err != nil {
		return err
	}
	failed := ""
	if err := r.play(fds[0]); err != nil {
		failed = err.Error()
	}
	return handover.SendState(conn, failed)
}

func (r *rehearsal) play(program int) error {
	runtime.LockOSThread() // what it starts ends with this thread
	st := upgradeState{Format: upgradeFormat, Worker: r.Worker, Path: "/tokenfs-rehearsal", Rehearsal: true}
	m, err := crypt.NewMemory(fs.MemoryConfig(r.Worker.Size, r.Worker.Inodes, crypt.SecretmemOff))
	if err != nil {
		return err
	}
	defer m.Close()
	memory := m.FDs()
	st.Worker.Secret, st.Worker.Why = memory.Secret, memory.Why
	fs.SaveInit(m.Slots(), r.Init)
	// What is read from it is what /dev/fuse would give: nothing, for now.
	kernel, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// Nobody connects to it, or could.
	control, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	top, err := os.Open("/")
	if err != nil {
		return err
	}
	h, theirs, err := handover.New()
	if err != nil {
		return err
	}
	actor, said, err := startActor(program, theirs)
	theirs.Close()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		var ws unix.WaitStatus
		for {
			if _, err := unix.Wait4(actor.Pid, &ws, 0, nil); err != unix.EINTR {
				break
			}
		}
		h.Close() // it will not come any more
		ended <- endOf(ws, false)
	}()
	conn, err := h.Accept(actor)
	if err == nil {
		err = handover.SendState(conn, st, kernel[1], memory.Keys, memory.Arena, memory.Slots,
			control, int(top.Fd()), int(top.Fd()))
	}
	if err == nil {
		var thanks string
		_, err = handover.ReceiveWithin(conn, rehearsalLimit, &thanks, 0, 0)
	}
	if err == nil {
		return nil
	}
	actor.Kill()
	return fmt.Errorf("it cannot take over, as a rehearsal shows: %w (%w): %.300s", err, <-ended, bytes.TrimSpace(<-said))
}

// startActor starts the new program as an exec in the keeper's place would, and
// returns what it says in the end.
func startActor(program int, theirs *os.File) (actor process.Handle, said <-chan []byte, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return actor, nil, err
	}
	defer null.Close()
	out, tell, err := os.Pipe()
	if err != nil {
		return actor, nil, err
	}
	defer tell.Close()
	// Out of the way of what the new process is to have in its first places.
	if program, err = unix.FcntlInt(uintptr(program), unix.F_DUPFD_CLOEXEC, handover.FD+1); err != nil {
		out.Close()
		return actor, nil, err
	}
	defer unix.Close(program)
	actor.Pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", program), os.Args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(process.Environment(process.TestVars), fmt.Sprintf("%s=%d", upgradeVar, handover.FD)),
		Files: []uintptr{null.Fd(), null.Fd(), tell.Fd(), handover.FD: theirs.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL, PidFD: &actor.Fd},
	})
	if err != nil {
		out.Close()
		return actor, nil, err
	}
	all := make(chan []byte, 1)
	go func() {
		defer out.Close()
		out.SetReadDeadline(time.Now().Add(rehearsalLimit + handover.Timeout)) // a worker may keep it open
		b, _ := io.ReadAll(io.LimitReader(out, 4096))
		all <- b
	}()
	return actor, all, nil
}

// errRehearsed is how a rehearsal ends well.
var errRehearsed = errors.New("this was a rehearsal")

// actAlong is the new program's part: it is ready to serve, and says so.
func (d *daemon) actAlong(conn *net.UnixConn) error {
	go d.worker.run()
	defer d.worker.end()
	if d.worker.awaitWorker(rehearsalLimit) == nil {
		return errors.New("no worker came up in a rehearsal")
	}
	if err := handover.SendState(conn, "thanks"); err != nil {
		return err
	}
	return errRehearsed
}
