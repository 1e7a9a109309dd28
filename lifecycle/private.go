package lifecycle

import (
	"errors"
	"fmt"
	"os"

	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/run"
)

// mountInside mounts where a launcher says, in the launcher's namespaces. By now
// this process is unreadable for its user. The launcher need not be: whoever has
// taken it over has a mount of this user's somewhere, and neither keys nor device.
func mountInside(k run.Keeper, o mount.Options) (_ *mount.Mount, err error) {
	conn, err := handover.Claim(k.Handover)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var offer run.Offer
	fds, err := handover.ReceiveWithin(conn, handover.NoDeadline, &offer, 0, 3) // it may be waiting for a lock; its end is noticed
	if err != nil {
		return nil, fmt.Errorf("hear where to mount: %w", err)
	}
	if offer.Error != "" {
		process.CloseAll(fds)
		return nil, errors.New(offer.Error)
	}
	m := &mount.Mount{Path: offer.Path, Fd: -1}
	defer process.CloseAll(fds)
	o.Source = k.Socket + socketSuffix
	var made run.Made
	if m.Fd, err = mountOffered(offer, fds, o); err != nil {
		made.Error = err.Error()
	}
	if err := errors.Join(err, handover.SendState(conn, made)); err != nil {
		process.CloseAll([]int{m.Fd})
		return nil, err
	}
	var st run.Mounted
	of, err := handover.ReceiveWithin(conn, handover.Timeout, &st, 0, 2)
	if err == nil && st.Error != "" {
		process.CloseAll(append(of, m.Fd))
		return nil, errors.New(st.Error)
	} else if err == nil && len(of) == 0 {
		err = errors.New("no mount table")
	}
	if err != nil {
		process.CloseAll(append(of, m.Fd))
		return nil, fmt.Errorf("hear of the mount: %w", err)
	}
	m.Entry, m.Table = st.Entry, os.NewFile(uintptr(of[0]), "mount table")
	if len(of) > 1 {
		m.Beneath = os.NewFile(uintptr(of[1]), st.Path)
	}
	return m, nil
}

// mountOffered does what is asked for with descriptors: namespaces, then a directory.
func mountOffered(offer run.Offer, fds []int, o mount.Options) (int, error) {
	namespaces, target := 1, offer.Path
	if offer.User {
		namespaces++
	}
	if !offer.Over {
		if len(fds) <= namespaces {
			return -1, errors.New("no directory to mount on")
		}
		target = fmt.Sprintf("/proc/self/fd/%d", fds[namespaces])
	}
	if len(fds) < namespaces {
		return -1, errors.New("no namespaces to mount in")
	}
	return mount.NamespacesFrom(fds[:namespaces]).Mount(target, o)
}

// isPrivate says whether this is the mount of a command with a namespace of its
// own, whose control socket is where its source says.
func isPrivate(e mount.Entry) bool { return len(e.Source) > 0 && e.Source[0] == '/' }

// socketOf is the control socket behind a mount.
func socketOf(e mount.Entry, mountpoint string) string {
	if isPrivate(e) {
		return e.Source
	}
	return socketPath(mountpoint)
}

var errOfRun = errors.New("it belongs to tokenfs run and ends with its command: tokenfs wipe destroys what it holds")
