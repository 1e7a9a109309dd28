package apps

import (
	"errors"
	"fmt"
	"strings"
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
