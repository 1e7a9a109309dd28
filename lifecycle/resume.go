package lifecycle

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/session"
)

// Resume goes on where the keeper was whose place this process took. Of opts
// it uses Version and Logf.
func Resume(ctx context.Context, opts Options) error {
	return serveInThisProcess(ctx, opts, (*daemon).resume)
}

func (d *daemon) resume(context.Context) error {
	if err := process.CheckUnwatched(); err != nil {
		return err
	}
	fd, ok := upgradedFrom()
	if !ok {
		return fmt.Errorf("internal error: %s makes no sense", upgradeVar)
	}
	os.Unsetenv(upgradeVar)
	// Before it has anything: somebody may stop it when it has everything, and
	// nobody serves.
	timer, err := process.KillAfter(process.StillLimit)
	if err != nil {
		return fmt.Errorf("go on after an upgrade: %w", err)
	}
	conn, err := handover.Claim(fd)
	if err != nil {
		return fmt.Errorf("go on after an upgrade: %w", err)
	}
	defer conn.Close()
	var st upgradeState
	fds, err := handover.ReceiveState(conn, &st, upgradeFDs)
	if err != nil {
		return fmt.Errorf("go on after an upgrade: %w", err)
	}
	if err := d.adopt(st, fds); err != nil {
		return err
	}
	d.worker.alone = timer
	if st.Rehearsal {
		return d.actAlong(conn)
	}
	d.memory.SetInTrust(false)
	if err := handover.SendState(conn, "thanks"); err != nil {
		d.journal.logf("after an upgrade: %v", err)
	}
	// The old worker must be gone before another one starts.
	for _, old := range st.Old {
		endChild(old)
	}
	d.session.ResumeLeases()
	d.session.ResumeLeaders()
	d.serve()
	d.journal.logf("upgraded to %s", d.opts.Version)
	return nil
}

// endChild ends a process if it is a child: its pid is its own until it is
// collected here.
func endChild(pid int) {
	var info process.Siginfo
	if process.Waitid(pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT) == unix.ECHILD {
		return
	}
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// adopt makes the daemon anew around what was handed over.
func (d *daemon) adopt(st upgradeState, fds []int) (err error) {
	d.opts.Mountpoint, d.opts.MountOptions = st.Path, st.Options
	d.opts.Size, d.opts.Inodes = st.Worker.Size, st.Worker.Inodes
	d.limit, d.wanted = st.Limit, st.Wanted
	if d.wanted == (room{}) { // from a version that knew no limit
		d.limit.Bytes, d.wanted = math.MaxInt64, room{st.Worker.Size, st.Worker.Inodes}
	}
	d.since, d.program, d.upgrades = st.Since, st.Program, st.Upgrades
	d.journal.recent = append(st.Messages, d.journal.recent...)
	d.mount = &mount.Mount{Path: st.Path, Fd: fds[0], Entry: st.Entry, Beneath: os.NewFile(uintptr(fds[6]), st.Path)}
	if d.memory, err = st.mapMemory(fds); err != nil {
		return fmt.Errorf("go on after an upgrade: %w", err)
	}
	socket := os.NewFile(uintptr(fds[4]), "control socket")
	defer socket.Close()
	l, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("go on after an upgrade: control socket: %w", err)
	}
	d.control = &control{listener: l.(*net.UnixListener), parent: os.NewFile(uintptr(fds[5]), filepath.Dir(st.Path)),
		name: filepath.Base(socketPath(st.Path)), inode: st.Socket}
	d.control.listener.SetUnlinkOnClose(false)
	d.worker = newSupervisor(d.memory, d.mount.Fd, st.Worker, d.journal.logf)
	d.worker.restarts = st.Restarts + 1
	d.session = session.New(os.Geteuid(), st.Session, d.logout, d.journal.logf)
	return nil
}
