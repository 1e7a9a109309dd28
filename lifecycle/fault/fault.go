// Package fault sorts failures by what a caller can do about them.
package fault

import (
	"errors"
	"fmt"
)

// Kind sorts failures by what the caller can do about them. The strings travel
// over the control socket and are part of its protocol.
type Kind string

const (
	Failed      Kind = "failed"      // anything without a kind of its own
	BadRequest  Kind = "bad_request" // a request or setting that makes no sense
	NotMounted  Kind = "not_mounted" // no tokenfs at that path
	Dead        Kind = "dead"        // mounted, but nobody answers for it
	Mountpoint  Kind = "mountpoint"  // this path cannot be a mountpoint, or must not
	Unsupported Kind = "unsupported" // this machine lacks something tokenfs needs
	NoPath      Kind = "no_path"     // a path that is not in the filesystem
	Busy        Kind = "busy"        // at what may be over soon: try again
)

type fault struct {
	kind Kind
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func Errorf(kind Kind, format string, args ...any) error {
	return &fault{kind, fmt.Errorf(format, args...)}
}

// KindOf says which kind of failure err is; Failed if it has none.
func KindOf(err error) Kind {
	var f *fault
	if errors.As(err, &f) {
		return f.kind
	}
	return Failed
}
