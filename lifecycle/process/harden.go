package process

import (
	"fmt"
	"os/exec"
	"runtime"
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

// Program is the running program even if the file at its path was replaced.
const Program = "/proc/self/exe"

// Command makes a command that runs this program again, apart from the caller's
// terminal, process group and working directory.
func Command(argv []string) *exec.Cmd {
	return &exec.Cmd{
		Path:        Program,
		Args:        argv,
		Dir:         "/",
		Env:         Environment(DaemonVars),
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
}
