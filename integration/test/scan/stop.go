package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Family lists a process and its children.
func Family(pid int) ([]int, error) {
	pids := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		return nil, fmt.Errorf("process %d has ended, or this kernel does not list children (CONFIG_PROC_CHILDREN)", pid)
	}
	for _, path := range lists {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			pids = append(pids, n)
		}
	}
	return pids, nil
}

// Stop halts every thread of a process, and returns once they have halted.
func Stop(pid int) error {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	start := time.Now()
	for {
		thread, state, err := running(pid)
		switch waited := time.Since(start); {
		case err != nil:
			return err
		case thread == "":
			return nil
		case state == 'D' && waited > 20*time.Millisecond:
			// In the kernel for longer than a moment, perhaps waiting for a
			// thread that has halted: it halts before it runs on.
			return nil
		case waited > 10*time.Second:
			return fmt.Errorf("process %d: thread %s, in state %c, did not halt within 10 s", pid, thread, state)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// running names a thread that has not halted, one that runs before one that waits.
func running(pid int) (thread string, state byte, err error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		return "", 0, fmt.Errorf("process %d has ended", pid)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		// The name before the state may itself hold parentheses.
		i := strings.LastIndex(string(b), ") ")
		if i < 0 || i+2 >= len(b) {
			return "", 0, fmt.Errorf("%s is not as expected", path)
		}
		switch s := b[i+2]; s {
		case 'T', 't', 'X', 'Z':
		case 'D':
			thread, state = filepath.Base(filepath.Dir(path)), s
		default:
			return filepath.Base(filepath.Dir(path)), s, nil
		}
	}
	return thread, state, nil
}

// Continue lets a stopped process go on.
func Continue(pid int) error {
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		return fmt.Errorf("continue process %d: %w", pid, err)
	}
	return nil
}
