package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// An upgrade replaces the program under a mounted filesystem. The keeper hands
// everything to a holder, a process of the old program, and executes the new
// one in its own place: same pid, same parent. The new keeper makes itself
// unreadable and takes everything back. The worker ends with the old keeper,
// which clients notice as little as any other end of a worker.

// upgradeVar holds name and pid of the holder. Only an upgrade sets it.
const upgradeVar = "_TOKENFS_UPGRADE"

// upgradeFormat is the version of upgradeState.
const upgradeFormat = 1

// Formats are what a version can take over, each a list of versions.
type Formats struct {
	Arena   []int `json:"arena"`
	Upgrade []int `json:"upgrade"`
}

// ReadableFormats are this program's.
func ReadableFormats() Formats {
	return Formats{Arena: []int{crypt.FormatVersion}, Upgrade: []int{upgradeFormat}}
}

// upgradeState is what a keeper has that is not in memory it shares. With it
// come upgradeFDs descriptors: those of a worker, then the control socket, its
// directory, and the directory beneath the mount.
type upgradeState struct {
	Format    int         `json:"format"`
	Worker    workerState `json:"worker"`
	Path      string      `json:"path"`
	Entry     mountEntry  `json:"entry"`
	Options   []string    `json:"options"`
	Since     time.Time   `json:"since"`
	Program   program     `json:"program"`
	Socket    uint64      `json:"socket"` // its inode
	Restarts  int         `json:"restarts"`
	Upgrades  int         `json:"upgrades"`
	Old       []int       `json:"old"` // pids of children to be reaped
	Messages  []Message   `json:"messages"`
	Rehearsal bool        `json:"rehearsal"` // none of it is real; see actAlong

	Session sessionState `json:"session"`

	Limit  memoryLimit `json:"limit"`
	Wanted room        `json:"wanted"`
}

const upgradeFDs = workerFDs + 3

// program is what the keeper was started from, and what it may be replaced by.
type program struct {
	Path    string `json:"path"`
	Trusted bool   `json:"trusted"` // root's, and writable by nobody else
}

// thisProgram looks at what is running. Call it once, at the start.
func thisProgram() (program, error) {
	path, err := os.Readlink(selfExe)
	if err != nil {
		return program{}, fmt.Errorf("find this program's file: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(selfExe, &st); err != nil {
		return program{}, fmt.Errorf("examine this program's file: %w", err)
	}
	return program{strings.TrimSuffix(path, " (deleted)"), trusted(&st)}, nil
}

func trusted(st *unix.Stat_t) bool { return st.Uid == 0 && st.Mode&0o022 == 0 }

// open returns the file that is at the path now, if it may take over.
func (p program) open() (*os.File, error) {
	fd, err := unix.Open(p.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("upgrade to %s: %w", p.Path, err)
	}
	f := os.NewFile(uintptr(fd), p.Path)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = fmt.Errorf("upgrade to %s: %w", p.Path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("upgrade to %s: not a regular file", p.Path)
	case p.Trusted && !trusted(&st):
		err = fmt.Errorf("upgrade to %s: it is not root's alone, as the running program was: install it root:root and not writable by others", p.Path)
	default:
		err = readable(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readable asks the new program what it can take over. That it answers at all
// is the better half of the test.
func readable(f *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), "version", "--json")
	cmd.Env, cmd.Dir, cmd.WaitDelay = daemonEnv(), "/", time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("upgrade to %s: it does not run: %w %.200s", f.Name(), err, bytes.TrimSpace(said.Bytes()))
	}
	var v struct {
		Version string  `json:"version"`
		Formats Formats `json:"formats"`
	}
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		return fmt.Errorf("upgrade to %s: it is no tokenfs: %w", f.Name(), err)
	}
	if !slices.Contains(v.Formats.Arena, crypt.FormatVersion) || !slices.Contains(v.Formats.Upgrade, upgradeFormat) {
		return fmt.Errorf("upgrade to %s, version %s: it reads arenas of format %d and this one is %d, upgrades of format %d and this is %d: unmount, and mount again with the new version",
			f.Name(), v.Version, v.Formats.Arena, crypt.FormatVersion, v.Formats.Upgrade, upgradeFormat)
	}
	return nil
}

// upgrade prepares everything that can fail; then the answer goes out, and go
// on means the new program.
func (d *daemon) upgrade() (goOn func(), err error) {
	if d.run.Command {
		return nil, faultf(Mountpoint, "upgrade: %w", errOfRun)
	}
	// As it is now: it may have been raised for this, or lowered since.
	if limit, err := memoryLimitHere(); err == nil && limit.Bytes < perFilesystem {
		return nil, fmt.Errorf("upgrade to %s: with a memory limit of %d KiB, of %s, two versions do not fit side by side: unmount, and mount again with the new one", d.program.Path, limit.Bytes>>10, limit.Of)
	}
	f, err := d.program.open()
	if err != nil {
		return nil, err
	}
	if err := d.rehearse(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("upgrade to %s: %w: the old version goes on", d.program.Path, err)
	}
	// An exec waits for all threads to end, one that waits for the kernel among
	// them, and the kernel may wait for a worker. The next one gives all notices.
	if !d.worker.notes.Hold(answerLimit) {
		f.Close()
		return nil, fmt.Errorf("upgrade to %s: the kernel is busy with mapped files: try again", d.program.Path)
	}
	holder, name, err := d.hold()
	if err != nil {
		d.worker.notes.Release()
		f.Close()
		return nil, fmt.Errorf("upgrade to %s: %w", d.program.Path, err)
	}
	return func() {
		d.control.answering.Lock() // the last answers go out
		d.journal.flush()
		env := append(withoutVar(withoutVar(os.Environ(), upgradeVar), readyVar), fmt.Sprintf("%s=%s %d", upgradeVar, name, holder.pid))
		notify(reloading())
		// By descriptor: the very file that was checked.
		err := unix.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.Args, env)
		// Still here, so still the old one.
		holder.kill()
		<-holder.died
		holder.reap()
		f.Close()
		d.worker.notes.Release()
		d.control.answering.Unlock()
		notify("READY=1")
		d.journal.logf("upgrade to %s: %v: the old version goes on", d.program.Path, err)
	}, nil
}

// hold starts a holder and gives it everything.
func (d *daemon) hold() (c *child, name string, err error) {
	if c, err = d.worker.spawn(holderRole, 0); err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			c.kill()
			<-c.died
			c.reap()
		}
	}()
	conn, err := c.connect()
	if err != nil {
		return nil, "", err
	}
	listener, err := d.control.listener.File()
	if err != nil {
		return nil, "", fmt.Errorf("the control socket's descriptor: %w", err)
	}
	defer listener.Close()
	st := d.upgradeState()
	st.Old = append(st.Old, c.pid)
	m := d.memory.FDs()
	err = sendState(conn, st, d.mount.fd, m.Keys, m.Arena, m.Slots,
		int(listener.Fd()), int(d.control.parent.Fd()), int(d.mount.beneath.Fd()))
	if err != nil {
		return nil, "", fmt.Errorf("hand everything to a holder: %w", err)
	}
	if _, err := receiveState(conn, &name, 0); err != nil {
		return nil, "", fmt.Errorf("hear from the holder: %w", err)
	}
	return c, name, nil
}

func (d *daemon) upgradeState() upgradeState {
	st := upgradeState{
		Format: upgradeFormat, Worker: d.worker.begins(), Path: d.mount.path, Entry: d.mount.entry,
		Options: d.opts.MountOptions, Since: d.since, Program: d.program, Socket: d.control.inode,
		Upgrades: d.upgrades + 1, Messages: d.journal.messages(),
		Session: d.session.handOn(),
		Limit:   d.limit, Wanted: d.wanted,
	}
	d.worker.mu.Lock()
	defer d.worker.mu.Unlock()
	st.Restarts = d.worker.restarts
	st.Old = slices.Clone(d.worker.pids)
	return st
}

// beHolder keeps everything for the moment in which the keeper's process is
// neither the old program nor yet the new one in safety.
func beHolder(name string) error {
	conn, err := connectTo(name, os.Getppid())
	if err != nil {
		return err
	}
	var st upgradeState
	fds, err := receiveState(conn, &st, upgradeFDs)
	if err != nil {
		return fmt.Errorf("holding the filesystem: %w", err)
	}
	h, err := newHandover()
	if err != nil {
		return err
	}
	if err := sendState(conn, h.name()); err != nil {
		return err
	}
	back, err := h.accept(os.Getppid())
	if err != nil {
		return err
	}
	if err := sendState(back, st, fds...); err != nil {
		return err
	}
	// What is in flight on a socket is lost with its last end.
	var thanks string
	_, err = receiveState(back, &thanks, 0)
	return err
}

// upgradedFrom says who holds everything for this process, if somebody does.
func upgradedFrom() (name string, pid int, ok bool) {
	name, pids, ok := strings.Cut(os.Getenv(upgradeVar), " ")
	if !ok {
		return "", 0, false
	}
	pid, err := strconv.Atoi(pids)
	return name, pid, err == nil
}

// Upgraded says whether this process took a keeper's place: then its main goes
// to Resume at once, whatever its arguments are.
func Upgraded() bool {
	_, _, ok := upgradedFrom()
	return ok
}

var errUpgraded = errors.New("internal error: an upgraded process must go to Resume")
