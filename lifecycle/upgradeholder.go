package lifecycle

import (
	"errors"
	"fmt"
	"io"
	"net"

	"tokenfs/crypt"
	"tokenfs/fs"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/process"
)

// A holder keeps everything for the moment in which the keeper's process is
// neither the old program nor yet the new one in safety. Any program of the user
// may stop or kill either of them in that moment, and connect to whatever it
// likes. So the holder gives to nobody but the process that it was started by
// (package handover), and it does not last:
//
//	the keeper ends          the holder destroys the keys and ends, stopped or
//	                         not; the kernel sees to it (package orphan)
//	the keeper is stopped    before its exec: it still has everything, and the
//	                         worker serves; the holder ends by its own timer,
//	                         and the keeper sees that and stays the old one
//	                         after it: the holder waits for handoverTimeout,
//	                         then destroys the keys and ends both
//	the holder ends          before the exec: the keeper stays the old one
//	                         after it: the new program has nothing, and ends
//	the holder is stopped    the new program waits for handoverTimeout, and ends
//	both are stopped         the kernel ends the holder after stillLimit
//
// The new program has a timer of that kind, too, until its first worker serves;
// see unserved.

// What a holder gets: all that its keeper has to give, then the giver's end of the
// handover, and the keeper's pidfd.
const holderFDs = upgradeFDs + 2

// hold starts a holder and gives it everything.
func (u *upgrading) hold() (err error) {
	h, line, err := handover.New()
	if err != nil {
		return err
	}
	defer h.Close()
	keeper, err := process.This()
	if err != nil {
		line.Close()
		return err
	}
	defer keeper.Close()
	c, err := u.worker.spawn(holderRole)
	if err != nil {
		line.Close()
		return err
	}
	defer func() {
		if err != nil {
			c.kill()
			<-c.died
			c.reap()
			line.Close()
		}
	}()
	conn, err := c.connect()
	if err != nil {
		return err
	}
	listener, err := u.control.listener.File()
	if err != nil {
		return fmt.Errorf("the control socket's descriptor: %w", err)
	}
	defer listener.Close()
	giver, err := h.File()
	if err != nil {
		return fmt.Errorf("the holder's end of a handover: %w", err)
	}
	defer giver.Close()
	st := u.upgradeState()
	st.Old = append(st.Old, c.Pid)
	m := u.memory.FDs()
	err = handover.SendState(conn, st, u.mount.Fd, m.Keys, m.Arena, m.Slots, int(listener.Fd()), int(u.control.parent.Fd()), int(u.mount.Beneath.Fd()),
		int(giver.Fd()), keeper.Fd)
	if err != nil {
		return fmt.Errorf("hand everything to a holder: %w", err)
	}
	var holds bool
	if _, err := handover.ReceiveState(conn, &holds, 0); err != nil {
		return fmt.Errorf("hear from the holder: %w", err)
	}
	u.holder, u.line = c, line
	return nil
}

// beHolder is that process.
func beHolder(conn *net.UnixConn) error {
	// Before it has anything.
	if _, err := process.KillAfter(process.StillLimit); err != nil {
		return fmt.Errorf("holding the filesystem: %w", err)
	}
	var st upgradeState
	fds, err := handover.ReceiveState(conn, &st, holderFDs)
	if err != nil {
		return fmt.Errorf("holding the filesystem: %w", err)
	}
	h, err := handover.Open(fds[upgradeFDs])
	if err != nil {
		return err
	}
	keeper := process.Handle{Pid: st.Keeper, Fd: fds[upgradeFDs+1]}
	if err := handover.SendState(conn, true); err != nil {
		return err
	}
	// The connection ends in the exec. Until then the keeper has it all, too.
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("holding the filesystem: waiting for the exec: %w", err)
	}
	if err := st.handBack(h, keeper, fds[:upgradeFDs]); err != nil {
		st.destroy(fds)
		keeper.Kill() // it may be stopped, and has nothing to come for any more
		return fmt.Errorf("holding the filesystem: %w", err)
	}
	return nil
}

func (st *upgradeState) handBack(h *handover.Giver, keeper process.Handle, fds []int) error {
	back, err := h.Accept(keeper)
	if err != nil {
		return err
	}
	if err := handover.SendState(back, st, fds...); err != nil {
		return err
	}
	// What is in flight on a socket is lost with its last end.
	var thanks string
	_, err = handover.ReceiveState(back, &thanks, 0)
	return err
}

// destroy is for a holder whose keeper does not come.
func (st *upgradeState) destroy(fds []int) {
	if m, err := st.mapMemory(fds); err == nil {
		m.Close()
	}
}

func (st *upgradeState) mapMemory(fds []int) (*crypt.Memory, error) {
	return crypt.MapMemory(fs.MemoryConfig(st.Worker.Size, st.Worker.Inodes, crypt.SecretmemAuto),
		st.Worker.memory(fds))
}
