package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
)

// Unmounted says how an unmount went.
type Unmounted struct {
	Busy   bool // somebody still had a file open, and now gets errors
	Dead   bool // there was no daemon any more: the keys had gone with it
	Killed bool // the daemon did not answer, and was killed, which destroys the keys
	Untold bool // the daemon could not be told: it destroys the keys when the last file is closed
}

// Unmount ends the filesystem at mountpoint, in whatever state it is.
func Unmount(mountpoint string) (how Unmounted, err error) {
	before, _, err := mount.At(mountpoint)
	if err != nil {
		return how, err
	}
	if isPrivate(before) {
		return how, fault.Errorf(fault.Mountpoint, "unmount %s: %w", mountpoint, errOfRun)
	}
	c, err := dial(mountpoint)
	if err == nil {
		defer c.close()
		var answer reply
		answer, err = c.ask(request{Verb: verbUnmount}, answerTimeout)
		if err == nil {
			return Unmounted{Busy: answer.Busy}, nil
		}
		if !errors.Is(err, errSilent) {
			return how, err
		}
		if err := c.kill(); err != nil {
			return how, err
		}
		how.Killed = true
	}
	if how.Killed || fault.KindOf(err) == fault.Dead {
		err = how.clear(mountpoint, before)
	}
	return how, err
}

// clear takes a mount away without its daemon.
func (how *Unmounted) clear(mountpoint string, before mount.Entry) error {
	lock, err := mount.LockPlace(mountpoint)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	switch now, found, err := mount.At(mountpoint); {
	case err != nil:
		return err
	case !found:
		return removeSocket(mountpoint)
	case !now.Same(before):
		return fmt.Errorf("%s: another filesystem was mounted meanwhile: try again", mountpoint)
	}
	switch mount.Probe(mountpoint) {
	case mount.Gone:
		how.Dead = !how.Killed
		_, err = mount.ClearDead(mountpoint)
	case mount.Alive: // somebody deleted the socket
		how.Untold = true
		err = mount.Detach(mountpoint)
	case mount.Hung:
		err = fault.Errorf(fault.Dead, "%s is held by a process that neither answers nor listens: find it among this user's tokenfs processes, kill it, then try again", mountpoint)
	}
	return errors.Join(err, removeSocket(mountpoint))
}

// kill ends a daemon that does not answer.
func (c *client) kill() error {
	pid := int(c.server.Pid)
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("daemon %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// Only that process holds the listening socket. If it still listens now,
	// the descriptor is its, and not that of a later process with its pid.
	again, err := dial(c.mountpoint)
	if fault.KindOf(err) == fault.Dead {
		return nil
	}
	if err != nil {
		return err
	}
	again.close()
	if again.server.Pid != c.server.Pid {
		return fmt.Errorf("%s: another daemon has taken over: try again", c.mountpoint)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the daemon %d: %w", pid, err)
	}
	exited := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(killTimeout); ; {
		n, err := unix.Poll(exited, int(time.Until(deadline).Milliseconds()))
		if n == 1 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			return fmt.Errorf("the daemon %d was killed and has not ended: %w", pid, errors.Join(errSilent, err))
		}
	}
}

// removeSocket takes away the socket file of a daemon that is gone.
func removeSocket(mountpoint string) error {
	path := socketPath(mountpoint)
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer parent.Close()
	c := &control{parent: parent, name: filepath.Base(path)}
	return c.removeStale(path)
}
