package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/process"
)

// A keeper of tokenfs run mounts in namespaces of its launcher's, and nobody but
// the keeper ever has /dev/fuse. FUSE wants the device opened by a process of the
// user namespace that it is mounted in, and whoever owns that namespace may look
// into every process that was executed in it by a program he can read. So the
// keeper forks a child that enters the namespaces and executes nothing: its memory
// stays that of a program executed outside, and as unreadable. It has the keeper's
// descriptors (CLONE_FILES), and leaves the device among them.
//
// No more than one thread may enter a user namespace, and Go has many. The child has
// one, and none of Go's runtime: it may only make system calls.

// Namespaces are descriptors of those to be entered.
type Namespaces struct {
	User int // -1: it stays where it is
	mnt  int
}

// TheseNamespaces are this process's. The caller closes them.
func TheseNamespaces(withUser bool) (n Namespaces, err error) {
	n.User = -1
	if n.mnt, err = unix.Open("/proc/self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil && withUser {
		n.User, err = unix.Open("/proc/self/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		n.Close()
		return n, fmt.Errorf("namespaces of this process: %w", err)
	}
	return n, nil
}

// List has them in the order in which they are passed.
func (n Namespaces) List() []int {
	if n.User < 0 {
		return []int{n.mnt}
	}
	return []int{n.mnt, n.User}
}

func NamespacesFrom(fds []int) Namespaces {
	if len(fds) == 1 {
		return Namespaces{User: -1, mnt: fds[0]}
	}
	return Namespaces{User: fds[1], mnt: fds[0]}
}

func (n Namespaces) Close() { process.CloseAll(n.List()) }

// visit is what a child does, and how far it came. It lies in memory that the two
// share.
type visit struct {
	user, mnt uintptr // descriptors
	mounts    bool    // and does not only look whether it may
	device    uintptr // becomes /dev/fuse
	path      *byte   // of the device
	source    *byte
	target    *byte
	kind      *byte
	flags     uintptr
	data      *byte

	step  step
	errno syscall.Errno
}

type step int

const (
	enterUser step = iota
	openDevice
	enterMount
	makeMount
	visited
)

// make is all of the child. The device comes before the mount namespace, where any
// path can lead anywhere.
//
//go:norace
//go:nosplit
//go:noinline
//go:nocheckptr
func (v *visit) make() {
	var fd uintptr
	v.step = enterUser
	if v.user != ^uintptr(0) {
		if _, _, v.errno = syscall.RawSyscall(unix.SYS_SETNS, v.user, unix.CLONE_NEWUSER, 0); v.errno != 0 {
			return
		}
		// New credentials can make it readable, see suid_dumpable in proc_sys_fs(5).
		syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	}
	if v.mounts {
		v.step = openDevice
		if fd, _, v.errno = syscall.RawSyscall6(unix.SYS_OPENAT, atCwd, uintptr(unsafe.Pointer(v.path)), unix.O_RDWR|unix.O_CLOEXEC, 0, 0, 0); v.errno != 0 {
			return
		}
		_, _, v.errno = syscall.RawSyscall(unix.SYS_DUP3, fd, v.device, unix.O_CLOEXEC)
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		if v.errno != 0 {
			return
		}
	}
	v.step = enterMount
	if _, _, v.errno = syscall.RawSyscall(unix.SYS_SETNS, v.mnt, unix.CLONE_NEWNS, 0); v.errno != 0 {
		return
	}
	if v.mounts {
		v.step = makeMount
		if _, _, v.errno = syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(v.source)), uintptr(unsafe.Pointer(v.target)),
			uintptr(unsafe.Pointer(v.kind)), v.flags, uintptr(unsafe.Pointer(v.data)), 0); v.errno != 0 {
			return
		}
	}
	v.step = visited
}

// atCwd is AT_FDCWD, which is negative, as an argument.
const atCwd = ^uintptr(99)

// fork has a child make the visit, and returns its pid. No signal handler of Go's
// may run in it.
//
//go:norace
//go:noinline
//go:nocheckptr
func (v *visit) fork() (pid int, errno syscall.Errno) {
	all, before := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), unsafe.Sizeof(all), 0, 0)
	child, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_FILES, 0, 0, 0, 0, 0)
	if child == 0 && errno == 0 {
		v.make()
		for {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, unsafe.Sizeof(before), 0, 0)
	return int(child), errno
}

// run returns when the child has ended.
func (v *visit) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, errno := v.fork()
	if errno != 0 {
		return fmt.Errorf("enter the launcher's namespaces: fork: %w", errno)
	}
	stopped := false
	for {
		var ws unix.WaitStatus
		switch _, err := unix.Wait4(pid, &ws, unix.WUNTRACED, nil); {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("enter the launcher's namespaces: wait: %w", err)
		case ws.Stopped(): // by somebody who would have us wait for ever
			stopped = true
			unix.Kill(pid, unix.SIGKILL)
		case stopped || ws.Signaled():
			return fmt.Errorf("enter the launcher's namespaces: somebody ended the process that did")
		default:
			return nil
		}
	}
}

// visit enters namespaces. If there is a target, it mounts there, with /dev/fuse at
// the number of device.
func (n Namespaces) visit(device int, target string, o Options) (visit, error) {
	shared, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		return visit{}, fmt.Errorf("enter the launcher's namespaces: %w", err)
	}
	defer unix.Munmap(shared)
	var pinned runtime.Pinner
	defer pinned.Unpin()
	text := func(s string) *byte {
		before, _, _ := strings.Cut(s, "\x00")
		b := append([]byte(before), 0)
		pinned.Pin(&b[0])
		return &b[0]
	}
	v := (*visit)(unsafe.Pointer(&shared[0]))
	*v = visit{user: ^uintptr(0), mnt: uintptr(n.mnt), mounts: target != "", device: uintptr(device), path: text("/dev/fuse"),
		source: text(o.Source), target: text(target), kind: text(FSType), flags: o.Flags, data: text(o.data(device))}
	if n.User >= 0 {
		v.user = uintptr(n.User)
	}
	err = v.run()
	return *v, err
}

// Enterable is an error if namespaces cannot be entered: that is refused then.
func (n Namespaces) Enterable() error {
	v, err := n.visit(-1, "", Options{})
	if err == nil && v.errno != 0 {
		err = &Refused{fmt.Errorf("enter a namespace: %w", v.errno)}
	}
	return err
}

// Mount mounts at target, as seen from the namespaces, and returns /dev/fuse.
func (n Namespaces) Mount(target string, o Options) (int, error) {
	// Until there is a device the number is taken.
	device, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("enter the launcher's namespaces: %w", err)
	}
	v, err := n.visit(device, target, o)
	switch {
	case err != nil:
	case v.errno == 0:
		err = checkIsFuse(device)
	case v.step == openDevice:
		err = deviceFault(v.errno)
	case v.step == makeMount:
		err = mountFault(v.errno)
	default:
		err = fmt.Errorf("enter the launcher's namespaces: %w", v.errno)
	}
	if err != nil {
		unix.Close(device)
		return -1, err
	}
	return device, nil
}

// Refused is a machine that allows no namespaces, or no mounts in them.
type Refused struct{ Err error }

func (e *Refused) Error() string { return e.Err.Error() + refusalRemedy(e.Err) }

func refusalRemedy(err error) string {
	sysctl := func(name string) string {
		b, _ := os.ReadFile("/proc/sys/" + name)
		return strings.TrimSpace(string(b))
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fmt.Sprintf(": user.max_user_namespaces is %s, user.max_mnt_namespaces %s: raise them", sysctl("user/max_user_namespaces"), sysctl("user/max_mnt_namespaces"))
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return ": sysctl kernel.unprivileged_userns_clone=1 allows it"
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return ": AppArmor restricts user namespaces here: tokenfs needs a profile with userns"
	}
	return ": a container's seccomp filter or a security module forbids it, and docker run --cap-add SYS_ADMIN, or --security-opt seccomp=unconfined, allows it"
}
