//go:build cgo

package sandbox

import "golang.org/x/sys/unix"

// A program with C in it has the threads and the allocator of C's library.
var buildRules = append(testRules, []rule{
	{call: unix.SYS_MPROTECT, checks: []check{{2, unix.PROT_EXEC, 0}}},
	{call: unix.SYS_BRK},
	// Its allocator looks at /sys for the number of CPUs.
	{call: unix.SYS_OPENAT, verdict: unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)},
	{call: unix.SYS_SCHED_GETAFFINITY},
	{call: unix.SYS_SET_ROBUST_LIST},
	{call: unix.SYS_RSEQ},
	{call: unix.SYS_CLONE, checks: []check{{0, all32, pthreadFlags}}},
	// Its flags are in memory, where a filter cannot see them; without it clone is used.
	{call: unix.SYS_CLONE3, verdict: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
}...)

// pthreadFlags are what C's library starts threads with.
const pthreadFlags = goFlags | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID
