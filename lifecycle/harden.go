package lifecycle

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// Harden must be the first thing a process does that will hold keys: no core
// dump, no ptrace and no /proc/PID/mem or pidfd_getfd by the same user, no file
// for others by accident.
func Harden() error {
	if crypt.Unprotected {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process unreadable: prctl PR_SET_DUMPABLE: %w", err)
	}
	// Yama's exception for a tracer that a program allows outlasts an exec. Without
	// Yama there is none, which is the only way for this to fail.
	unix.Prctl(unix.PR_SET_PTRACER, 0, 0, 0, 0)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	unix.Umask(0o077)
	return nil
}

// NameProcess undoes that a program started as /proc/self/exe is called "exe"
// by ps, where the name of a process is that of its first thread. Call it on
// main's goroutine, which init has tied to that.
func NameProcess(name string) {
	defer runtime.UnlockOSThread()
	b := append([]byte(name), 0)
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0)
}

func init() { runtime.LockOSThread() }

// Go's asynchronous preemption interrupts a thread with a signal and leaves
// its registers in the signal frame, on the stack, where keys are then found.
const preemptOff = "asyncpreemptoff=1"

// What a worker's runtime is to leave alone: it takes system calls, and wakes
// an idle process every second.
const quietRuntime = "updatemaxprocs=0,decoratemappings=0"

func preemptionIsOff() bool {
	for _, setting := range slices.Backward(strings.Split(os.Getenv("GODEBUG"), ",")) {
		if strings.HasPrefix(setting, "asyncpreemptoff=") {
			return setting == preemptOff
		}
	}
	return false
}

// godebug adds our settings to a GODEBUG that may ask for other things.
func godebug(old string) string {
	ours := strings.Split(quietRuntime+","+preemptOff, ",")
	var keep []string
	for setting := range strings.SplitSeq(old, ",") {
		name, _, _ := strings.Cut(setting, "=")
		if setting != "" && !slices.ContainsFunc(ours, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
			keep = append(keep, setting)
		}
	}
	return strings.Join(append(keep, ours...), ",")
}

// ExecWithoutPreemption replaces this process by a new run of the same program
// with the same arguments whose runtime is set up as Run needs it; it returns
// only if that is so already, or impossible. No descriptor of the filesystem
// may be open yet.
func ExecWithoutPreemption() error {
	if preemptionIsOff() {
		return nil
	}
	env := append(withoutVar(os.Environ(), "GODEBUG"), "GODEBUG="+godebug(os.Getenv("GODEBUG")))
	return fmt.Errorf("start again with GODEBUG=%s: %w", preemptOff, unix.Exec(selfExe, os.Args, env))
}

// selfExe is the running program even if the file at its path was replaced.
const selfExe = "/proc/self/exe"

func withoutVar(env []string, name string) []string {
	var keep []string
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			keep = append(keep, v)
		}
	}
	return keep
}

// daemonEnv is all a daemon gets: the caller's environment may hold secrets,
// and would stay in the daemon's memory for as long as it lives.
func daemonEnv() []string {
	env := []string{"GODEBUG=" + godebug(os.Getenv("GODEBUG"))}
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "GOCOVERDIR", "GORACE"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, testEnv()...)
}

// self makes a command that runs this program again, apart from the caller's
// terminal, process group and working directory.
func self(argv []string) *exec.Cmd {
	return &exec.Cmd{
		Path:        selfExe,
		Args:        argv,
		Dir:         "/",
		Env:         daemonEnv(),
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
}
