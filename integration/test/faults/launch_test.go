package faults

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// A program is launched under a seccomp filter that has the kernel ask the test
// what to do about some system calls, of it and of all that descends from it.
// Unlike a debugger this can be done to processes that nobody may trace.

const launcherName = "launcher"

// launcherMain is this program between the test and what it launches: uid,
// system calls, then the command.
func launcherMain() {
	runtime.LockOSThread() // filter, ids and exec are all this thread's
	uid, _ := strconv.Atoi(os.Args[1])
	// Under the filter, and before somebody listens, a call that is watched would
	// wait for ever, and the runtime makes some for memory: so nothing is allocated.
	debug.SetGCPercent(-1)
	rights, data := unix.UnixRights(0), []byte("x")
	iov := unix.Iovec{Base: &data[0], Len: 1}
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &rights[0]}
	msg.SetControllen(len(rights))
	listener, err := install(os.Args[2])
	if err == nil {
		binary.NativeEndian.PutUint32(rights[unix.CmsgLen(0):], uint32(listener))
		if _, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, 3, uintptr(unsafe.Pointer(&msg)), 0); errno != 0 {
			err = errno
		}
	}
	unix.CloseOnExec(3)
	for _, call := range [][2]uintptr{{unix.SYS_SETGROUPS, 0}, {unix.SYS_SETRESGID, uintptr(uid)}, {unix.SYS_SETRESUID, uintptr(uid)}} {
		id := call[1]
		if _, _, errno := unix.RawSyscall(call[0], id, id, id); errno != 0 && err == nil {
			err = errno
		}
	}
	if err == nil {
		err = unix.Exec(os.Args[3], os.Args[3:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "launcher:", err)
	os.Exit(111)
}

// install has the calls, a list of numbers, answered by whoever listens.
func install(calls string) (listener int, err error) {
	const load, jumpIfEqual, ret = 0x20, 0x15, 0x06
	const allow, ask = 0x7fff0000, 0x7fc00000
	filter := []unix.SockFilter{{Code: load, K: 0}}
	for _, f := range strings.Split(calls, ",") {
		nr, err := strconv.Atoi(f)
		if err != nil {
			return -1, err
		}
		filter = append(filter, unix.SockFilter{Code: jumpIfEqual, Jf: 1, K: uint32(nr)}, unix.SockFilter{Code: ret, K: ask})
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: allow})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}

// notification and verdict are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type verdict struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifRecv  = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend  = 0xc0182101
	letItPass  = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	everything = 1 << 30
)

// A refusal makes calls of one kind fail, or has a signal come in the middle of
// them: count of them, after skip.
type refusal struct {
	name  string
	nr    int
	only  func(n *notification) bool // nil: all
	errno unix.Errno
	role  string         // argv[0] of the process, "" for any
	kill  syscall.Signal // sent to the process instead
	skip  int
	count int
}

// launched is a program whose system calls are watched.
type launched struct {
	mu      sync.Mutex
	refuse  refusal
	refused int
}

func (l *launched) set(r refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse, l.refused = r, 0
}

// carriedOut says how often a call was refused.
func (l *launched) carriedOut() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func (l *launched) judge(n *notification) (errno unix.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.refuse
	if r.count == 0 || int(n.nr) != r.nr || r.only != nil && !r.only(n) || r.role != "" && role(int(n.pid)) != r.role {
		return 0
	}
	if r.skip > 0 {
		r.skip--
		return 0
	}
	r.count--
	l.refused++
	if r.kill != 0 {
		unix.Kill(threadGroup(int(n.pid)), r.kill)
		return 0
	}
	return r.errno
}

func role(tid int) string {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", tid))
	argv0, rest, _ := strings.Cut(string(cmdline), "\x00")
	if strings.HasSuffix(argv0, "tokenfs") && (strings.Contains(rest, "--foreground") || strings.HasPrefix(rest, "mount\x00-f")) {
		return "keeper"
	}
	return argv0
}

func threadGroup(tid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, after, _ := strings.Cut(string(status), "Tgid:")
	line, _, _ := strings.Cut(after, "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	return pid
}

// launch runs a command of the user's to its end; what it leaves in the
// background stays watched.
func launch(u *installed.User, calls []int, r refusal, args ...string) (l *launched, said string, code int) {
	u.Helper()
	l = &launched{refuse: r}
	said, code = l.run(u, calls, args...)
	return l, said, code
}

func (l *launched) run(u *installed.User, calls []int, args ...string) (said string, code int) {
	u.Helper()
	program := u.Top + "/" + launcherName
	if _, err := os.Stat(program); err != nil {
		if err := installed.Copy("/proc/self/exe", program, 0o700); err != nil {
			u.Fatal(err)
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		u.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "launcher")
	cmd := u.Program(program, append([]string{strconv.Itoa(u.UID), numbers(calls), u.Command}, args...)...)
	cmd.SysProcAttr.Credential = nil // the launcher needs root
	cmd.ExtraFiles = []*os.File{theirs}
	go func() {
		defer unix.Close(pair[0])
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, 0)
		if err != nil || n == 0 {
			return
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		fds, _ := unix.ParseUnixRights(&messages[0])
		l.listen(fds[0])
	}()
	limit := time.AfterFunc(60*time.Second, func() { cmd.Process.Kill() })
	defer limit.Stop()
	said, code = u.End(cmd)
	theirs.Close()
	if code == 111 {
		u.Fatalf("nothing was launched: %s", said)
	}
	return said, code
}

func numbers(calls []int) string {
	var s []string
	for _, nr := range calls {
		s = append(s, strconv.Itoa(nr))
	}
	return strings.Join(s, ",")
}

// listen answers until nobody is left who could ask.
func (l *launched) listen(fd int) {
	defer unix.Close(fd)
	for {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err == unix.EINTR {
			continue
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifRecv, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it died while it waited for us
		}
		v := verdict{id: n.id}
		if errno := l.judge(&n); errno != 0 {
			v.errno = -int32(errno)
		} else {
			v.flags = letItPass
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifSend, uintptr(unsafe.Pointer(&v)))
	}
}

// Shared mappings are ours; private ones the Go runtime's and the kernel's.
func shared(n *notification) bool  { return n.args[3]&unix.MAP_SHARED != 0 }
func private(n *notification) bool { return !shared(n) }

// newProcess tells vfork and fork from threads.
func newProcess(n *notification) bool { return n.args[0]&unix.CLONE_THREAD == 0 }
func newThread(n *notification) bool  { return !newProcess(n) }

func notLauncher(n *notification) bool { return !strings.HasSuffix(role(int(n.pid)), launcherName) }

// crashes are calls that a Go program cannot do without: those of its runtime,
// and the pipe that a library tries out before main.
var crashes = []string{"mmap, of the runtime", "thread", "madvise", "prctl", "pipe2"}

// refusals are what the kernel may deny.
var refusals = []refusal{
	{name: "memfd_create", nr: unix.SYS_MEMFD_CREATE, errno: unix.EMFILE},
	{name: "memfd_secret", nr: unix.SYS_MEMFD_SECRET, errno: unix.ENOMEM},
	{name: "ftruncate", nr: unix.SYS_FTRUNCATE, errno: unix.ENOMEM},
	{name: "mmap, shared", nr: unix.SYS_MMAP, only: shared, errno: unix.ENOMEM},
	{name: "mmap, of the runtime", nr: unix.SYS_MMAP, only: private, errno: unix.ENOMEM},
	{name: "mlock2", nr: unix.SYS_MLOCK2, errno: unix.ENOMEM},
	{name: "madvise", nr: unix.SYS_MADVISE, errno: unix.EINVAL},
	{name: "fork", nr: unix.SYS_CLONE, only: newProcess, errno: unix.EAGAIN},
	{name: "thread", nr: unix.SYS_CLONE, only: newThread, errno: unix.EAGAIN},
	{name: "execve", nr: unix.SYS_EXECVE, only: notLauncher, errno: unix.ENOMEM},
	{name: "socket", nr: unix.SYS_SOCKET, errno: unix.EMFILE},
	{name: "pipe2", nr: unix.SYS_PIPE2, errno: unix.EMFILE},
	{name: "prctl", nr: unix.SYS_PRCTL, errno: unix.EPERM},
	{name: "recvmsg", nr: unix.SYS_RECVMSG, errno: unix.ENOMEM},
}

func watched() (calls []int) {
	for _, r := range refusals {
		calls = append(calls, r.nr)
	}
	return calls
}

var thorough = flag.Bool("thorough", false, "refuse far more calls, which takes ten minutes")

// steps are the calls to refuse: each of the first, and then ever fewer.
func steps(yield func(int) bool) {
	share := 1
	if *thorough {
		share = 8
	}
	for n := 0; n < everything; n += 1 + n/share {
		if !yield(n) {
			return
		}
	}
}

// isTrace says whether a program ended by no decision of its own.
func isTrace(said string) bool {
	return strings.Contains(said, "goroutine ") || strings.Contains(said, "fatal error:")
}

func TestMountWithCallsRefused(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			worked, failed, crashed, never := 0, 0, 0, true
			for n := range steps {
				r.skip, r.count = n, 1
				u := installed.New(t, command(t), installed.Packaged)
				l, said, code := launch(u, watched(), r, "mount")
				hit := l.carriedOut() > 0
				never = never && !hit
				switch {
				case code == 0:
					worked++
					u.Shell("echo x > " + u.Path("x") + " && grep -q x " + u.Path("x"))
					if said, code := u.Run("unmount"); code != 0 {
						// Its turn to be refused something: the keys are gone, and
						// the next one clears what is left.
						if code == 4 || strings.TrimSpace(said) == "" {
							t.Errorf("call %d refused: unmount ended with %d and said %q", n+1, code, said)
						}
						u.Must("unmount")
					}
				case isTrace(said):
					crashed++
					if !slices.Contains(crashes, r.name) {
						t.Errorf("call %d refused: it crashed: %s", n+1, said)
					}
					u.Must("mount") // it clears what a crash leaves
					u.Must("unmount")
				default:
					failed++
					if strings.TrimSpace(said) == "" {
						t.Errorf("call %d refused: status %d and not a word", n+1, code)
					}
				}
				u.NothingLeft()
				if t.Failed() {
					t.Fatalf("call %d refused: status %d, said %q", n+1, code, said)
				}
				if !hit {
					break
				}
			}
			if never {
				t.Errorf("%s is never called: nothing was tested", r.name)
			}
			t.Logf("mounted %d times, failed with a word %d times, crashed and was cleared %d times", worked, failed, crashed)
		})
	}
}
