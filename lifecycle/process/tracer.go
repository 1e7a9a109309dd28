package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// A tracer reads the registers of a process, and makes system calls in its name,
// whatever the process has done to its memory. After Harden nobody of the same
// user can attach any more; one that attached before stays. So each process that
// is to get keys or /dev/fuse looks for one first.
//
// This refuses a debugger that is there by mistake, and one that came in the
// moment between exec and Harden. It cannot stop whoever starts the process as
// its tracer and means it: that one decides what the process sees.

// CheckUnwatched refuses to go on while somebody traces this process. It comes
// after Harden, and before anything is made.
func CheckUnwatched() error {
	if crypt.Unprotected {
		return nil
	}
	tracer, err := TracerOf("self")
	if err != nil {
		return fmt.Errorf("look for a tracer: %w", err)
	}
	if tracer != "" {
		return fmt.Errorf("process %s traces this one, and could take its keys: start it without strace, gdb or another debugger", tracer)
	}
	return nil
}

// maxThreads bounds how often tracerOf looks again.
const maxThreads = 1000

// TracerOf names a process that traces a thread of process pid; it returns "" if
// there is none. A thread that is traced can start another one, and then be let
// go. So it looks until it meets no thread that it has not seen before.
func TracerOf(pid string) (tracer string, err error) {
	dir := "/proc/" + pid + "/task"
	seen := map[string]bool{}
	for range maxThreads {
		tasks, err := os.ReadDir(dir)
		if err != nil {
			return "", err
		}
		fresh := false
		for _, task := range tasks {
			if seen[task.Name()] {
				continue
			}
			seen[task.Name()], fresh = true, true
			status, err := os.ReadFile(dir + "/" + task.Name() + "/status")
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				continue // it ended
			} else if err != nil {
				return "", err
			}
			if tracer := statusLine(string(status), "TracerPid"); tracer != "0" {
				name, _ := os.ReadFile("/proc/" + tracer + "/comm")
				return fmt.Sprintf("%s (%q)", tracer, strings.TrimSuffix(string(name), "\n")), nil
			}
		}
		if !fresh {
			return "", nil
		}
	}
	return "", errors.New("its threads come and go too fast")
}

// statusLine finds a line of /proc/PID/status.
func statusLine(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
