package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// What the caller's limits (setrlimit(2)) are too small for fails at some moment,
// and seldom with an error: the runtime gives up where it can have no thread,
// fusermount3 crashes where it can have no stack, the kernel kills what has used up
// its time. So they are looked at before anything is made.

// A need is a limit that a filesystem cannot do with less of.
type need struct {
	resource int
	least    uint64
	what     string
	raise    string // by what
}

var needs = []need{
	{unix.RLIMIT_NOFILE, 64, "open files", "ulimit -n, LimitNOFILE="},
	{unix.RLIMIT_SIGPENDING, 64, "pending signals", "ulimit -i, LimitSIGPENDING="}, // timers, and what is done on all threads
	{unix.RLIMIT_STACK, 1 << 20, "bytes of stack", "ulimit -s, LimitSTACK="},       // fusermount3 crashes with 64 KiB
	{unix.RLIMIT_DATA, 256 << 20, "bytes of data", "ulimit -d, LimitDATA="},
	{unix.RLIMIT_CPU, 60, "seconds of CPU time", "ulimit -t, LimitCPU="},
}

// usualStack is what most systems give. With no limit at all the kernel would lay
// out memory more predictably.
const usualStack = 8 << 20

// RaiseLimits raises what this process may raise itself. The number of open files
// is limitKeeper's.
func RaiseLimits() error {
	for _, resource := range []int{unix.RLIMIT_SIGPENDING, unix.RLIMIT_STACK, unix.RLIMIT_DATA, unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_AS, unix.RLIMIT_NPROC} {
		var l unix.Rlimit
		err := unix.Getrlimit(resource, &l)
		if err == nil {
			l.Cur = l.Max
			if resource == unix.RLIMIT_STACK {
				l.Cur = min(l.Max, usualStack)
			}
			err = unix.Setrlimit(resource, &l)
		}
		if err != nil {
			return fmt.Errorf("raise limit %d: %w", resource, err)
		}
	}
	return nil
}

// CheckLimits says which limit is too small, however far it is raised.
func CheckLimits() error {
	for _, n := range needs {
		var l unix.Rlimit
		if err := unix.Getrlimit(n.resource, &l); err != nil {
			return fmt.Errorf("limit of %s: %w", n.what, err)
		}
		if l.Max < n.least {
			return fault.Errorf(fault.Unsupported, "the limit of %s is %d, and a filesystem needs %d: raise it (%s)", n.what, l.Max, n.least, n.raise)
		}
	}
	return checkThreads()
}

const (
	// threadsNeeded is for a keeper, two workers while one replaces the other, and
	// fusermount3; about a third of it was seen in use.
	threadsNeeded = 64
	// threadsCounted is a limit that is small enough to count what is there.
	threadsCounted = 2048
)

// checkThreads looks at the limit on all threads of a user together. Root has none.
func checkThreads() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &l); err != nil {
		return fmt.Errorf("limit of processes: %w", err)
	}
	if l.Max > threadsCounted || IsCapable(unix.CAP_SYS_RESOURCE) || IsCapable(unix.CAP_SYS_ADMIN) {
		return nil
	}
	if have := threadsOf(os.Getuid()); uint64(have)+threadsNeeded > l.Max {
		return fault.Errorf(fault.Unsupported, "the limit of processes is %d, this user has %d threads, and a filesystem needs %d: raise it (ulimit -u, LimitNPROC=)", l.Max, have, threadsNeeded)
	}
	return nil
}

func threadsOf(uid int) (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		var st unix.Stat_t
		// The directory of a process that its user cannot read is root's.
		if unix.Stat(dir, &st) != nil || int(st.Uid) != uid && st.Uid != 0 {
			continue
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // it ended
		}
		var real int
		fmt.Sscan(statusLine(string(status), "Uid"), &real)
		if threads, err := strconv.Atoi(statusLine(string(status), "Threads")); err == nil && real == uid {
			n += threads
		}
	}
	return n
}

// MemoryRemedy adds what stands behind memory that cannot be had.
func MemoryRemedy(err error) string {
	for _, n := range []struct {
		need
		errno error
	}{
		{need{unix.RLIMIT_FSIZE, 0, "the size of a file", "ulimit -f, LimitFSIZE="}, unix.EFBIG},
		{need{unix.RLIMIT_AS, 0, "the memory of a process", "ulimit -v, LimitAS="}, unix.ENOMEM},
	} {
		var l unix.Rlimit
		if errors.Is(err, n.errno) && unix.Getrlimit(n.resource, &l) == nil && l.Cur != unix.RLIM_INFINITY {
			return fmt.Sprintf(": the limit of %s is %d KiB: raise it (%s)", n.what, l.Cur>>10, n.raise)
		}
	}
	return ""
}
