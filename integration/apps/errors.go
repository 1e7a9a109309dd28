package apps

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrUsage is in every error about what the user asked for, as against what
// the machine answered.
var ErrUsage = errors.New("usage")

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == ErrUsage }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

var errHome = usagef("HOME is not set to an absolute path: set it to your home directory")

func unknownApp(name string) error {
	var names []string
	for _, a := range Table {
		names = append(names, a.Name)
	}
	return usagef("no app is known as %q: there are %s, or give a directory with a / in its name", name, strings.Join(names, ", "))
}

// ErrInterrupted is in the error of what a signal has ended, at a point where
// nothing is half done.
var ErrInterrupted = errors.New("interrupted")

func (e *Engine) interrupted() error {
	if e.Interrupted != nil && e.Interrupted() {
		return ErrInterrupted
	}
	return nil
}

// undisturbed is for what must not be interrupted, such as taking back what was.
func (e *Engine) undisturbed() (end func()) {
	before := e.Interrupted
	e.Interrupted = nil
	return func() { e.Interrupted = before }
}

// helps is what to try about an error of the system's, where that is the machine's
// to change, and not the app's.
func helps(err error, otherwise string) string {
	for errno, remedy := range map[error]string{
		unix.EMFILE: "raise the limit of open files (ulimit -n), then try again",
		unix.ENFILE: "close programs, for the whole machine has too many files open, then try again",
		unix.ENOSPC: "make room on that disk, then try again",
		unix.EDQUOT: "make room within your quota, then try again",
		unix.EROFS:  "mount that disk so that it can be written to, then try again",
		unix.EACCES: "make that directory one that you may write to, then try again",
		unix.EPERM:  "make that directory one that you may write to, then try again",
	} {
		if errors.Is(err, errno) {
			return remedy
		}
	}
	return otherwise
}
