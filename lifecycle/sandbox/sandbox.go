package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// State says what came of Enter: for each layer nothing, or why it is not there.
type State struct {
	Capabilities string `json:"capabilities,omitempty"`
	NoNewPrivs   string `json:"no_new_privs,omitempty"`
	Landlock     string `json:"landlock,omitempty"`
	Seccomp      string `json:"seccomp,omitempty"`

	LandlockABI int    `json:"landlock_abi,omitempty"`
	Calls       int    `json:"calls,omitempty"`    // system calls that the filter lets pass
	Unnamed     string `json:"unnamed,omitempty"`  // why no listener learns of the others
	Listener    bool   `json:"listener,omitempty"` // there is one
}

// Layers of the sandbox, for tests that take one away.
type Layers struct{ Capabilities, NoNewPrivs, Landlock, Seccomp bool }

// All of them.
var All = Layers{true, true, true, true}

// Enter locks the process down. The caller passes listener, -1 if there is
// none, to whoever guards the process, and closes it.
//
// It must come before any thread blocks its signals: they are how the runtime
// reaches every thread.
func Enter(layers Layers) (st State, listener int) {
	runtime.LockOSThread() // where all threads cannot be reached, this one starts the others
	defer runtime.UnlockOSThread()
	if layers.Capabilities {
		st.Capabilities = why(dropCapabilities())
	}
	if layers.NoNewPrivs {
		st.NoNewPrivs = why(onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0))
	}
	if layers.Landlock {
		var err error
		st.LandlockABI, err = restrictFiles()
		st.Landlock = why(err)
	}
	listener = -1
	if layers.Seccomp {
		var err error
		listener, st.Unnamed, err = installFilter()
		st.Seccomp, st.Calls, st.Listener = why(err), Calls(), listener >= 0
	}
	return st, listener
}

func why(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// errOneThread is what a program with C in it gets.
var errOneThread = errors.New("only one thread could be reached, because this program was built with cgo: build it with CGO_ENABLED=0")

// onAllThreads makes a system call on every thread. One that begins later is
// like the one that started it.
func onAllThreads(call, a, b, c uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(call, a, b, c)
	if errno == syscall.ENOTSUP { // says the package, not the kernel
		if _, _, errno = syscall.Syscall(call, a, b, c); errno == 0 {
			return errOneThread
		}
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// dropCapabilities is for root. What remains lets more memory be locked than
// the limit allows.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if sets == [2]unix.CapUserData{} {
		return nil
	}
	keep := sets[0].Permitted & (1 << unix.CAP_IPC_LOCK)
	sets = [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&sets)
	if err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// Limits are what a process in the sandbox needs no more of.
var Limits = map[string]int{"open files": unix.RLIMIT_NOFILE, "file size": unix.RLIMIT_FSIZE, "core": unix.RLIMIT_CORE}

// Limit sets the limits of a process in the sandbox to nothing.
func Limit(pid int) error {
	for name, resource := range Limits {
		if testsMayWrite && resource != unix.RLIMIT_CORE {
			continue
		}
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{}, nil); err != nil {
			return fmt.Errorf("limit of process %d, %s: %w", pid, name, err)
		}
	}
	return nil
}

// Threads looks at a process from outside: of how many of its threads each
// line of /proc/PID/status that is asked for has the value wanted.
func Threads(pid int, line, want string) (have, all int, err error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, task := range tasks {
		status, err := os.ReadFile(dir + "/" + task.Name() + "/status")
		if err != nil {
			continue // it ended
		}
		all++
		for l := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(l, line+":"); ok && strings.TrimSpace(value) == want {
				have++
			}
		}
	}
	return have, all, nil
}
