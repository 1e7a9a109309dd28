package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockThread gives the goroutine a thread of its own.
func lockThread() { runtime.LockOSThread() }

// What of this machine and this build keeps a test from seeing anything.

func landlockABI() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

func landlockNeeds(have, abi int) string {
	if have < abi {
		return fmt.Sprintf("this kernel's Landlock has ABI %d, and this takes %d", have, abi)
	}
	return ""
}

// oneThread is the same error that Enter gives.
func oneThread() string {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno == syscall.ENOTSUP {
		return errOneThread.Error()
	}
	return ""
}

func needsRoot() string {
	if os.Geteuid() != 0 {
		return "needs root, to have a capability to lose"
	}
	return oneThread()
}

func noLimits() string {
	if testsMayWrite {
		return "the race detector opens files"
	}
	return ""
}

func capabilitiesWant() string {
	if os.Geteuid() != 0 || oneThread() == "" {
		return ""
	}
	return "capset: " + oneThread()
}
