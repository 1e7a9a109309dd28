package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/run"
	"tokenfs/lifecycle/session"
)

// Options of a filesystem. The zero value of each field but Mountpoint means
// its default.
type Options struct {
	Mountpoint   string // see Canonical
	Size         int64
	Inodes       int
	Secretmem    crypt.Secretmem
	MountOptions []string    // ordinary ones, as with -o
	Skeleton     []fs.Folder // see SetSkeleton
	PlainSaves   bool        // cut and write in place, as tmpfs does

	AtLogout   session.AtLogout // as it is: the zero value wipes at once
	Login      bool             // belongs to the user's logins, and waits for the first one
	Leader     int              // of a login session it is for, where no logind tells
	RootLogins bool             // with Login: root's own, too

	Version string                           // shown in status
	Ready   func()                           // called once, when the filesystem can be used
	Logf    func(format string, args ...any) // never given contents or keys
}

// Defaults of Options.
const (
	DefaultSize   = 64 << 20
	DefaultInodes = 64 << 10
)

// ErrMounted is what Run returns when a healthy filesystem is there already.
var ErrMounted = errors.New("already mounted")

const (
	// stopTimeout bounds tidying up: by then the keys have long been destroyed,
	// and nothing is worth staying for.
	stopTimeout = 10 * time.Second
	// idleTimeout is how long an unmounted filesystem may take to end before
	// it counts as still in use.
	idleTimeout = 500 * time.Millisecond
	// loginPatience is how long a login waits for the mount; what it takes until
	// this process counts comes on top, see TimeoutStartSec= in tokenfs.service.
	loginPatience = time.Second
	// startTimeout is for the first worker, which may take its time: nobody
	// waits for files yet.
	startTimeout = 10 * time.Second
)

// daemon is a filesystem being served by this process.
type daemon struct {
	opts    Options
	since   time.Time
	journal *journal
	memory  *crypt.Memory
	mount   *mount.Mount
	worker  *supervisor
	control *control
	session *session.Session

	limit  memoryLimit // when it was mounted
	wanted room        // without it

	program     program
	programs    *programWatch
	run         run.Keeper
	upgrades    int
	isUpgrading atomic.Bool
	asked       context.Context // ends when a signal, or the caller, asks for the end
	leaving     sync.Mutex      // locked for an exec, and for good once the end has begun

	served chan error // the filesystem is over
	end    chan struct{}
	ending sync.Once
	ended  chan struct{} // closed when busy and err are set
	busy   bool
	err    error
}

// Run mounts a filesystem and serves it in this process until ctx ends, a
// SIGTERM, SIGINT, SIGHUP or SIGQUIT arrives, a client asks for the end, or
// somebody unmounts it. It returns with the keys destroyed, nothing mounted
// and no socket left; nil unless that, or serving, failed.
//
// It must be the only one in its process, and the process must have been
// started with an environment of its own: see StartAgain and Start.
func Run(ctx context.Context, opts Options) error {
	if Upgraded() {
		return errUpgraded
	}
	return serveInThisProcess(ctx, opts, (*daemon).start)
}

// serveInThisProcess is what Run and Resume have in common.
func serveInThisProcess(ctx context.Context, opts Options, begin func(*daemon, context.Context) error) error {
	if !mayStartWorkers {
		return errors.New("internal error: main does not begin with BeWorker")
	}
	if err := errors.Join(process.Harden(), process.CheckUnwatched()); err != nil {
		return err
	}
	collectOnDemand()
	if err := errors.Join(process.RaiseLimits(), limitKeeper()); err != nil {
		return err
	}
	if os.Getenv("GODEBUG") != process.RuntimeSettings {
		return errors.New("internal error: a keeper needs an environment of its own: see StartAgain")
	}
	if err := closeInherited(); err != nil {
		return err
	}
	// Before anything is mounted: a signal must never end the process without
	// taking the mount along. A closed terminal or log must not end it either.
	ctx, restore := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	defer restore()
	signal.Ignore(unix.SIGPIPE)

	if opts.Size == 0 {
		opts.Size = DefaultSize
	}
	if opts.Inodes == 0 {
		opts.Inodes = DefaultInodes
	}
	d := &daemon{
		opts:    opts,
		journal: newJournal(opts.Logf),
		asked:   ctx,
		end:     make(chan struct{}),
		ended:   make(chan struct{}),

		programs: newProgramWatch(),
	}
	defer d.journal.flush()
	if err := begin(d, ctx); errors.Is(err, session.ErrNobody) || errors.Is(err, errRehearsed) {
		return nil
	} else if err != nil {
		return err
	}
	if err := d.tellReady(); err != nil {
		return errors.Join(err, d.stop())
	}
	select {
	case <-ctx.Done():
		d.journal.logf("asked to end: %v", context.Cause(ctx))
	case <-d.end:
		d.journal.logf("asked to unmount over the control socket")
	case <-d.programs.gone:
		d.journal.logf("%s was removed from this machine: unmounting", d.program.Path)
		return d.endForRemoval()
	case err := <-d.served:
		d.served <- err
		if err == nil {
			d.journal.logf("%s was unmounted", d.mount.Path)
		}
	}
	return d.stop()
}

// start leaves nothing behind if it fails.
func (d *daemon) start(ctx context.Context) (err error) {
	if err := process.CheckLimits(); err != nil {
		return err
	}
	if d.program, err = thisProgram(); err != nil {
		return err
	}
	options, err := mount.ParseOptions(d.opts.MountOptions, os.Geteuid() == 0)
	if err != nil {
		return err
	}
	if d.run, err = run.KeeperOf(); err != nil {
		return err
	}
	d.opts.MountOptions = options.Names
	if err := checkSkeleton(d.opts.Skeleton); err != nil { // a mount without it is better than none
		d.journal.logf("warning: linked apps do not find their directories: %v", err)
		d.opts.Skeleton = nil
	}
	mountIt, base := func() (*mount.Mount, error) { return mountInside(d.run, options) }, d.run.Socket
	if !d.run.Private() {
		if base, err = mount.Canonical(d.opts.Mountpoint); err != nil {
			return err
		}
		d.opts.Mountpoint = base
	}
	if err := d.startSession(ctx); err != nil {
		return err
	}
	if d.opts.Login {
		// Late is better than killed, which is what comes next.
		late := time.AfterFunc(loginPatience, func() { process.Notify("READY=1\nSTATUS=still mounting") })
		defer late.Stop()
	}
	defer func() {
		if err != nil {
			d.session.Disconnect()
		}
	}()
	if !d.run.Private() {
		dir, lock, err := d.claim(base)
		if err != nil {
			return err
		}
		defer lock.Unlock()
		mountIt = func() (*mount.Mount, error) { return mount.New(dir, base, options.Here) }
		defer func() {
			if d.mount == nil {
				dir.Close()
			}
		}()
	}
	if d.control, err = listen(base); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.control.close()
		}
	}()
	most := d.fitInMemory()
	d.memory, err = crypt.NewMemory(fs.MemoryConfig(d.opts.Size, d.opts.Inodes, d.opts.Secretmem))
	if err != nil {
		return fault.Errorf(fault.Unsupported, "no protected memory for the keys: %w%s", err, process.MemoryRemedy(err))
	}
	defer func() {
		if err != nil {
			d.memory.Erase()
		}
	}()
	timer, err := process.NewKillTimer()
	if err != nil {
		return err
	}
	if d.mount, err = mountIt(); err != nil {
		return err
	}
	d.since = time.Now()
	d.worker = newSupervisor(d.memory, d.mount.Fd, workerState{
		Size:    d.opts.Size,
		Most:    most,
		Inodes:  d.opts.Inodes,
		UID:     os.Geteuid(),
		GID:     os.Getegid(),
		NoAtime: options.Flags&unix.MS_NOATIME != 0,

		WholeSaves: !d.opts.PlainSaves,
		Skeleton:   d.opts.Skeleton,
	}, d.journal.logf)
	d.worker.alone = timer
	d.serve()
	if d.worker.awaitWorker(startTimeout) == nil {
		err := errors.New("no worker came up")
		d.worker.stop()
		select {
		case over := <-d.worker.over:
			if over != nil {
				err = over
			}
		default:
		}
		return errors.Join(fmt.Errorf("serve %s: %w", d.mount.Path, err), d.mount.Unmount(), unix.Close(d.mount.Fd))
	}
	d.warn()
	return nil
}

// serve starts the worker, and answers on the control socket.
func (d *daemon) serve() {
	d.served = d.worker.over
	go d.worker.run()
	go d.control.serve(d.handle, d.journal.logf)
	go d.session.Run()
	go d.watchProgram()
}

// warn says at the start what a user should not have to look up in status.
func (d *daemon) warn() {
	d.warnOfMemory()
	names, err := d.mount.PlaintextBeneath()
	if err != nil {
		d.journal.logf("warning: look beneath the mount: %v", err)
	}
	if len(names) > 0 {
		d.journal.logf("warning: %q and possibly more was written to %s while it was being mounted: it lies beneath the mount, unprotected", names[0], d.mount.Path)
	}
}

func (d *daemon) tellReady() error {
	mount.ForgetFailure(d.mount.Path)
	d.journal.flush() // a daemon in the background is about to leave the terminal
	if d.opts.Ready != nil {
		d.opts.Ready()
	}
	if d.opts.Login {
		process.Notify("STATUS=") // it may have been something else
	}
	return errors.Join(process.Notify("READY=1"), process.Announce())
}

// stop ends the filesystem: keys, mount, what they sealed, socket, in this order.
func (d *daemon) stop() error {
	watchdog := time.AfterFunc(stopTimeout, func() { os.Exit(1) })
	defer watchdog.Stop()
	if timer, err := process.KillAfter(process.StillLimit); err == nil { // it may be stopped meanwhile
		defer timer.Set(0)
	}

	d.leaving.Lock()
	d.worker.stop()
	process.Notify("STOPPING=1")
	err := d.mount.Unmount()
	var serving error
	select {
	case serving = <-d.served:
	case <-time.After(idleTimeout):
		d.busy = true
		d.worker.end()
		if !d.worker.notes.Hold(idleTimeout) {
			d.mount.Abort() // or this process could not end
		}
	}
	// The memory stays mapped for whoever still looks at it.
	d.memory.Erase()
	d.session.Stop()
	d.err = errors.Join(serving, err, d.control.close())
	run.RemoveRuntime(d.run.Remove)
	close(d.ended)
	d.control.drain(time.Second)
	return d.err
}
