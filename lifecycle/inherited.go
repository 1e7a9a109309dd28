package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/run"
)

// A process that serves has an environment of ours (package process), and no
// descriptor but what it was given on purpose: what is open could be read and
// written by a worker that somebody has taken over.

// ownVars only we set.
var ownVars = []string{process.ReadyVar, run.KeeperVar, upgradeVar}

// isOurs says whether an environment is what a keeper may have.
func isOurs(env []string) bool {
	may := slices.Concat(process.UnitVars, ownVars)
	seen := map[string]bool{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		if name == "GODEBUG" && value != process.RuntimeSettings || name != "GODEBUG" && !slices.Contains(may, name) || seen[name] {
			return false
		}
		seen[name] = true
	}
	return seen["GODEBUG"]
}

// HasOwnEnvironment says whether this process can become a keeper. One that was
// started by Start has; another one calls StartAgain.
func HasOwnEnvironment() bool { return isOurs(os.Environ()) }

// StartAgain replaces this process by a new run of the same program, with argv and
// an environment of ours. It returns only if that fails. No descriptor of the
// filesystem may be open yet.
func StartAgain(argv []string) error {
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	return fmt.Errorf("start again: %w", unix.Exec(process.Program, argv, process.Environment(slices.Concat(process.UnitVars, ownVars))))
}

// closeInherited closes what the caller left open, besides standard output and
// error, and what was passed on purpose. A file is inherited if it is not closed in
// an exec, as are all that a Go program opens.
func closeInherited() error {
	passed, err := passedFDs()
	if err != nil {
		return err
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	for _, entry := range all {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if errors.Is(err, unix.EBADF) {
			continue // that of the directory
		} else if err != nil {
			return fmt.Errorf("close inherited files: %w", err)
		}
		switch {
		case slices.Contains(passed, fd):
			unix.CloseOnExec(fd)
		case flags&unix.FD_CLOEXEC == 0:
			unix.Close(fd)
		}
	}
	return closeInput()
}

// closeInput lets go of standard input, which no keeper reads.
func closeInput() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	defer null.Close()
	if err := unix.Dup3(int(null.Fd()), 0, 0); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	return nil
}

// passedFDs are those that whoever started this process has told it of.
func passedFDs() (fds []int, err error) {
	if process.Background() {
		fds = append(fds, process.ReadyFD)
	}
	run, err := run.KeeperOf()
	if err != nil {
		return nil, err
	}
	if run.Private() {
		fds = append(fds, run.Handover)
	}
	if fd, ok := upgradedFrom(); ok {
		fds = append(fds, fd)
	}
	return fds, nil
}
