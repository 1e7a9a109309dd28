package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/session"
)

// An upgrade replaces the program under a mounted filesystem. The keeper hands
// everything to a holder, a process of the old program, and executes the new
// one in its own place: same pid, same parent. The new keeper makes itself
// unreadable and takes everything back (holder of an upgrade: upgradeholder.go).
// The worker ends with the old keeper, which clients notice as little as any
// other end of a worker.

// upgradeVar holds the number of the descriptor that is the new program's end of
// a handover. Only an upgrade sets it.
const upgradeVar = "_TOKENFS_UPGRADE"

// upgradeFormat is the version of upgradeState, and of how it is handed over.
const upgradeFormat = 2

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
	Entry     mount.Entry `json:"entry"`
	Options   []string    `json:"options"`
	Since     time.Time   `json:"since"`
	Program   program     `json:"program"`
	Socket    uint64      `json:"socket"` // its inode
	Restarts  int         `json:"restarts"`
	Upgrades  int         `json:"upgrades"`
	Old       []int       `json:"old"` // pids of children to be reaped
	Keeper    int         `json:"keeper"`
	Messages  []Message   `json:"messages"`
	Rehearsal bool        `json:"rehearsal"` // none of it is real; see actAlong

	Session session.State `json:"session"`

	Limit  memoryLimit `json:"limit"`
	Wanted room        `json:"wanted"`
}

const upgradeFDs = workerFDs + 3

// program is what the keeper was started from, and what it may be replaced by.
type program struct {
	Path    string `json:"path"`
	Trusted bool   `json:"trusted"` // the file is root's, and writable by nobody else
}

// thisProgram looks at what is running. Call it once, at the start.
func thisProgram() (program, error) {
	path, err := os.Readlink(process.Program)
	if err != nil {
		return program{}, fmt.Errorf("find this program's file: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(process.Program, &st); err != nil {
		return program{}, fmt.Errorf("examine this program's file: %w", err)
	}
	return program{strings.TrimSuffix(path, " (deleted)"), trusted(&st)}, nil
}

func trusted(st *unix.Stat_t) bool { return st.Uid == 0 && st.Mode&0o022 == 0 }

// open returns the file that is at the path now, if it may take over.
func (p program) open() (f *os.File, err error) {
	if p.Trusted {
		// The file alone tells nothing: it could be any program of root's, at the
		// end of a path that its user decides on.
		if f, err = mount.OpenRootsAlone(p.Path); err != nil {
			return nil, fmt.Errorf("upgrade to %s: the running program is root's, and what is at its path may be somebody else's: %w: install it root:root, in a directory that is root's alone", p.Path, err)
		}
	} else if f, err = p.openAnybodys(); err != nil {
		return nil, fmt.Errorf("upgrade to %s: %w", p.Path, err)
	}
	if err = readable(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openAnybodys is for a program that its user could replace from the beginning.
func (p program) openAnybodys() (*os.File, error) {
	fd, err := unix.Open(p.Path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.Path), nil
}

// protection says who can put another program in the place of this one.
func (p program) protection() Protection {
	const name = "program_trusted"
	if !p.Trusted {
		return Protection{name, false, fmt.Sprintf("%s is not root's, and whoever can replace it gets everything by an upgrade: install it root:root with mode 0711", p.Path)}
	}
	f, err := mount.OpenRootsAlone(p.Path)
	if err != nil {
		return Protection{name, false, fmt.Sprintf("%s is refused for an upgrade, since not root alone decides what is there: %v: install it root:root, in a directory that is root's alone", p.Path, err)}
	}
	f.Close()
	return Protection{name, true, "root alone can replace " + p.Path}
}

// readable asks the new program what it can take over. That it answers at all
// is the better half of the test.
func readable(f *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), "version", "--json")
	cmd.Env, cmd.Dir, cmd.WaitDelay = process.Environment(process.TestVars), "/", time.Second
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

// An upgrading is all that an upgrade needs for its last step.
type upgrading struct {
	*daemon
	file   *os.File // the new program
	holder *child
	line   *os.File // the new program's end of its handover
}

// upgrade prepares everything that can fail; then the answer goes out, and go
// on means the new program.
func (d *daemon) upgrade() (goOn func(), err error) {
	if !d.isUpgrading.CompareAndSwap(false, true) {
		return nil, fault.Errorf(fault.Busy, "upgrade to %s: another one is under way: try again", d.program.Path)
	}
	prepared, answered := make(chan error), make(chan struct{})
	go func() {
		// The kernel ends what this thread starts when the thread ends. It is the
		// one that executes the new program, and so goes on in that.
		runtime.LockOSThread()
		defer d.isUpgrading.Store(false)
		u, err := d.prepareUpgrade()
		prepared <- err
		if err == nil {
			<-answered
			u.execute()
		}
	}()
	return func() { close(answered) }, <-prepared
}

func (d *daemon) prepareUpgrade() (_ *upgrading, err error) {
	defer func() { // a mistake of ours must not cost the filesystem
		if p := recover(); p != nil {
			d.journal.logf("internal error: %v\n%s", p, debug.Stack())
			d.worker.goOn()
			d.worker.notes.Release()
			err = errors.New("internal error in the daemon: please report what its log says")
		}
	}()
	if d.run.Command {
		return nil, fault.Errorf(fault.Mountpoint, "upgrade: %w", errOfRun)
	}
	// As it is now: it may have been raised for this, or lowered since.
	if limit, err := memoryLimitHere(); err == nil && limit.Bytes < perFilesystem {
		return nil, fmt.Errorf("upgrade to %s: with a memory limit of %d KiB, of %s, two versions do not fit side by side: unmount, and mount again with the new one", d.program.Path, limit.Bytes>>10, limit.Of)
	}
	// For a reload there is no more time than for a start, which a login waits for. Each
	// step of an upgrade has a limit of its own.
	process.Notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (rehearsalLimit + 4*handover.Timeout).Microseconds()))
	file, err := d.program.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := d.rehearse(file); err != nil {
		return nil, fmt.Errorf("upgrade to %s: %w: the old version goes on", d.program.Path, err)
	}
	// An exec waits for all threads to end, one that waits for the kernel among
	// them, and the kernel may wait for a worker. The next one gives all notices.
	if !d.worker.notes.Hold(answerLimit) {
		return nil, fmt.Errorf("upgrade to %s: the kernel is busy with mapped files: try again", d.program.Path)
	}
	u := &upgrading{daemon: d, file: file}
	if err := u.hold(); err != nil {
		d.worker.goOn()
		d.worker.notes.Release()
		return nil, fmt.Errorf("upgrade to %s: %w", d.program.Path, err)
	}
	return u, nil
}

// execute replaces this process by the new program. It returns only if that
// fails, with everything as it was.
func (u *upgrading) execute() {
	u.control.answering.Lock() // the last answers go out
	u.journal.flush()
	process.Notify(process.Reloading())
	u.memory.SetInTrust(true)
	err := u.exec()
	// Still here, so still the old one.
	u.memory.SetInTrust(false)
	u.holder.kill()
	<-u.holder.died
	u.holder.reap()
	u.line.Close()
	u.file.Close()
	u.worker.goOn()
	u.worker.notes.Release()
	u.control.answering.Unlock()
	process.Notify("READY=1")
	u.journal.logf("upgrade to %s: %v: the old version goes on", u.program.Path, err)
}

func (u *upgrading) exec() error {
	// Not in the middle of the end, which would leave the new program nothing to go
	// on with.
	u.leaving.Lock()
	defer u.leaving.Unlock()
	if u.asked.Err() != nil {
		return errors.New("the filesystem is about to end")
	}
	select {
	case <-u.holder.died:
		return errors.New("somebody ended its holder")
	default:
	}
	// No other child may inherit the end.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	line := int(u.line.Fd())
	if _, err := unix.FcntlInt(uintptr(line), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("the end of its handover: %w", err)
	}
	defer unix.CloseOnExec(line)
	env := append(process.Environment(process.UnitVars), fmt.Sprintf("%s=%d", upgradeVar, line))
	// By descriptor: the very file that was checked.
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", u.file.Fd()), os.Args, env)
}

func (d *daemon) upgradeState() upgradeState {
	st := upgradeState{
		Format: upgradeFormat, Worker: d.worker.begins(), Path: d.mount.Path, Entry: d.mount.Entry,
		Options: d.opts.MountOptions, Since: d.since, Program: d.program, Socket: d.control.inode,
		Upgrades: d.upgrades + 1, Messages: d.journal.messages(), Keeper: os.Getpid(),
		Session: d.session.HandOn(),
		Limit:   d.limit, Wanted: d.wanted,
	}
	st.Restarts, st.Old = d.worker.handOn()
	return st
}

// upgradedFrom is the descriptor through which this process gets everything, if
// it took a keeper's place.
func upgradedFrom() (fd int, ok bool) {
	fd, err := strconv.Atoi(os.Getenv(upgradeVar))
	return fd, err == nil && fd > 2
}

// Upgraded says whether this process took a keeper's place: then its main goes
// to Resume at once, whatever its arguments are.
func Upgraded() bool {
	_, ok := upgradedFrom()
	return ok
}

var errUpgraded = errors.New("internal error: an upgraded process must go to Resume")
