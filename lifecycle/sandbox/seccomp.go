package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rules are what a process in the sandbox may still call.
func rules() []rule {
	own := check{0, all32, uint64(os.Getpid())}
	return append([]rule{
		// Requests and answers; the keeper's connection; what wakes a thread.
		{call: unix.SYS_READ},
		{call: unix.SYS_WRITE},
		{call: unix.SYS_SENDMSG}, // the listener goes to the keeper; no other socket is open
		{call: unix.SYS_CLOSE},

		// Memory of the runtime and that which outlives the process. Nothing that
		// is mapped can be executed, and no mapping changes afterwards.
		{call: unix.SYS_MMAP, checks: []check{{2, unix.PROT_EXEC, 0}}},
		{call: unix.SYS_MUNMAP},
		{call: unix.SYS_MADVISE},
		{call: unix.SYS_MLOCK2},
		{call: unix.SYS_FSTAT},
		{call: unix.SYS_LSEEK},
		{call: unix.SYS_FALLOCATE, checks: []check{{1, all32, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}}},
		{call: unix.SYS_GETRANDOM},

		// Threads of the runtime, and how they wait.
		{call: unix.SYS_CLONE, checks: []check{{0, all32 &^ unix.CLONE_SETTLS, goFlags}}},
		{call: unix.SYS_FUTEX},
		{call: unix.SYS_EPOLL_PWAIT},
		{call: unix.SYS_EPOLL_CTL},
		{call: unix.SYS_NANOSLEEP},
		{call: unix.SYS_RESTART_SYSCALL}, // a wait goes on after SIGSTOP and SIGCONT
		{call: unix.SYS_SCHED_YIELD},
		{call: unix.SYS_CLOCK_GETTIME}, // where the clock cannot be read without
		{call: unix.SYS_EXIT},
		{call: unix.SYS_EXIT_GROUP},
		{call: unix.SYS_TIMER_SETTIME}, // its own end, once the keeper is gone

		// Signals of a thread that begins, faults or ends the process.
		{call: unix.SYS_RT_SIGPROCMASK},
		{call: unix.SYS_RT_SIGACTION},
		{call: unix.SYS_RT_SIGRETURN},
		{call: unix.SYS_SIGALTSTACK},
		{call: unix.SYS_GETPID},
		{call: unix.SYS_GETTID},
		{call: unix.SYS_TGKILL, checks: []check{own}},
	}, buildRules...)
}

// goFlags are what Go's runtime starts threads with (runtime/os_linux.go): a
// new process, or one in other namespaces, it cannot be. On amd64 it adds
// CLONE_SETTLS.
const goFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// Calls is how many system calls the filter knows.
func Calls() int {
	different := map[uint32]bool{}
	for _, r := range rules() {
		different[r.call] = true
	}
	return len(different)
}

// installFilter puts all threads under the filter. Whoever has the listener is
// told of a call that it stops, while the thread that made it waits; without
// one the kernel ends the process, and only its own log names the call.
func installFilter() (listener int, unnamed string, err error) {
	if native == nil {
		return -1, "", errors.New("there is no filter for this machine's architecture yet")
	}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	fd, errno := setFilter(assemble(rules(), uint32(native.ID), unix.SECCOMP_RET_USER_NOTIF), flags|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	if errno == 0 {
		return fd, "", nil
	}
	unnamed = errno.Error()
	if errno == unix.EBUSY {
		unnamed = "this process began in a sandbox that has a listener of its own"
	}
	if _, errno := setFilter(assemble(rules(), uint32(native.ID), unix.SECCOMP_RET_KILL_PROCESS), flags); errno != 0 {
		return -1, "", fmt.Errorf("seccomp: %w: the kernel may lack it", errno)
	}
	return -1, unnamed, nil
}

func setFilter(program []unix.SockFilter, flags uintptr) (fd int, errno unix.Errno) {
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
	return int(r), errno
}
