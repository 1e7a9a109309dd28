package lifecycle

import (
	"errors"
	"fmt"
	"os"
)

// private says whether the mount is not for this process to make.
func (k runKeeper) private() bool { return k.Handover != 0 }

// takeMount gets from a launcher what it mounted in its namespace. By now this
// process is unreadable for its user.
func (k runKeeper) takeMount() (*mount, error) {
	if err := checkUnwatched(); err != nil {
		return nil, err
	}
	conn, err := claimHandover(k.Handover)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var st privateState
	fds, err := receiveWithin(conn, noDeadline, &st, 2, 3) // it may be waiting for a lock; its end is noticed
	if err != nil {
		return nil, fmt.Errorf("taking over the mount: %w", err)
	}
	m := &mount{path: st.Path, fd: fds[0], entry: st.Entry, table: os.NewFile(uintptr(fds[1]), "mount table")}
	if len(fds) > 2 {
		m.beneath = os.NewFile(uintptr(fds[2]), st.Path)
	}
	return m, nil
}

// private says whether this is the mount of a command with a namespace of its
// own, whose control socket is where its source says.
func (e mountEntry) private() bool { return len(e.Source) > 0 && e.Source[0] == '/' }

// socket is the control socket behind a mount.
func (e mountEntry) socket(mountpoint string) string {
	if e.private() {
		return e.Source
	}
	return socketPath(mountpoint)
}

var errOfRun = errors.New("it belongs to tokenfs run and ends with its command: tokenfs wipe destroys what it holds")
