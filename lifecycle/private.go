package lifecycle

import (
	"errors"
	"fmt"
	"os"
)

// mountInside mounts where a launcher says, in the launcher's namespaces. By now
// this process is unreadable for its user. The launcher need not be: whoever has
// taken it over has a mount of this user's somewhere, and neither keys nor device.
func mountInside(k runKeeper, o mountOptions) (_ *mount, err error) {
	conn, err := claimHandover(k.Handover)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var offer privateOffer
	fds, err := receiveWithin(conn, noDeadline, &offer, 0, 3) // it may be waiting for a lock; its end is noticed
	if err != nil {
		return nil, fmt.Errorf("hear where to mount: %w", err)
	}
	if offer.Error != "" {
		closeAll(fds)
		return nil, errors.New(offer.Error)
	}
	m := &mount{path: offer.Path, fd: -1}
	defer closeAll(fds)
	o.source = k.Socket + socketSuffix
	var made privateMade
	if m.fd, err = mountOffered(offer, fds, o); err != nil {
		made.Error = err.Error()
	}
	if err := errors.Join(err, sendState(conn, made)); err != nil {
		closeAll([]int{m.fd})
		return nil, err
	}
	var st privateState
	of, err := receiveWithin(conn, handoverTimeout, &st, 0, 2)
	if err == nil && st.Error != "" {
		closeAll(append(of, m.fd))
		return nil, errors.New(st.Error)
	} else if err == nil && len(of) == 0 {
		err = errors.New("no mount table")
	}
	if err != nil {
		closeAll(append(of, m.fd))
		return nil, fmt.Errorf("hear of the mount: %w", err)
	}
	m.entry, m.table = st.Entry, os.NewFile(uintptr(of[0]), "mount table")
	if len(of) > 1 {
		m.beneath = os.NewFile(uintptr(of[1]), st.Path)
	}
	return m, nil
}

// mountOffered does what is asked for with descriptors: namespaces, then a directory.
func mountOffered(offer privateOffer, fds []int, o mountOptions) (int, error) {
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
	return namespacesFrom(fds[:namespaces]).mount(target, o)
}

// isPrivate says whether this is the mount of a command with a namespace of its
// own, whose control socket is where its source says.
func isPrivate(e mountEntry) bool { return len(e.Source) > 0 && e.Source[0] == '/' }

// socketOf is the control socket behind a mount.
func socketOf(e mountEntry, mountpoint string) string {
	if isPrivate(e) {
		return e.Source
	}
	return socketPath(mountpoint)
}

var errOfRun = errors.New("it belongs to tokenfs run and ends with its command: tokenfs wipe destroys what it holds")
