package lifecycle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/session"
)

// The control protocol: one request and one reply, each a line of JSON, as
// often as the client likes on one connection.
//
//	{"v":1,"verb":"status"}
//	{"v":1,"verb":"wipe"}
//	{"v":1,"verb":"wipe","paths":["bXNhbC9jYWNoZQ=="]}
//	{"v":1,"verb":"skeleton","skeleton":[{"path":"azure","mode":448}]}
//	{"v":1,"verb":"unmount"}
//	{"v":1,"verb":"upgrade"}
//	{"v":1,"verb":"hold","seconds":3600}
//	{"v":1,"verb":"hold","command":"tmux"}
//	{"v":1,"verb":"release","lease":1}
//
// A hold without seconds lasts as long as the process that asks for it; a release
// without a lease is of all.
//
// Paths are relative to the mount and in base64, because a file name is bytes
// and JSON is text.
const (
	protocolVersion = 1
	requestLimit    = 64 << 10
	replyLimit      = 1 << 20
	requestTimeout  = 5 * time.Second // to send one, or to be idle
)

// The verbs, all of them.
const (
	verbStatus   = "status"
	verbWipe     = "wipe"
	verbSkeleton = "skeleton"
	verbUnmount  = "unmount"
	verbUpgrade  = "upgrade"
	verbHold     = "hold"
	verbLogin    = "login"
	verbRelease  = "release"
)

type request struct {
	V     int      `json:"v"`
	Verb  string   `json:"verb"`
	Paths [][]byte `json:"paths,omitempty"`

	Skeleton []fs.Folder `json:"skeleton,omitempty"`

	Seconds int64  `json:"seconds,omitempty"`
	Command string `json:"command,omitempty"` // its name, for status
	Lease   int    `json:"lease,omitempty"`
	Leader  int    `json:"leader,omitempty"` // of a login session

	peer *unix.Ucred // who asks
}

type reply struct {
	V     int        `json:"v"`
	Kind  fault.Kind `json:"kind,omitempty"`  // set if it failed
	Error string     `json:"error,omitempty"` // why
	// Dev is the device number of the mount that this server serves, so that
	// the client can tell that it is the one it meant.
	Dev    string       `json:"dev,omitempty"`
	Files  int          `json:"files,omitempty"`  // wiped
	Failed []FailedPath `json:"failed,omitempty"` // not wiped
	Busy   bool         `json:"busy,omitempty"`   // unmounted while in use
	Status *Status      `json:"status,omitempty"`

	content []byte // of Status, as the worker wrote it

	Lease    *session.Lease `json:"lease,omitempty"`
	Released int            `json:"released,omitempty"` // leases
	//lint:ignore U1000 the build with tag tokenfs_reveal has fields in it
	revelation
}

// encode puts what the worker wrote of the content into the status. The keeper does
// not decode it: the names of files would be about on its heap, and outlive a wipe.
func (r reply) encode() ([]byte, error) {
	line, err := encode(r)
	if err != nil || r.Status == nil || r.content == nil {
		return line, err
	}
	nothing, err := json.Marshal(r.Status.Content)
	if err != nil {
		return nil, err
	}
	const field = `"content":`
	before, after, found := bytes.Cut(line, append([]byte(field), nothing...))
	if !found {
		return nil, errors.New("internal error: a status without content")
	}
	return slices.Concat(before, []byte(field), r.content, after), nil
}

// forget clears names of files when the reply was sent.
func (r reply) forget() {
	clear(r.content)
	for _, f := range r.Failed {
		clear(f.Path)
	}
}

// FailedPath is a path that could not be wiped.
type FailedPath struct {
	Path  []byte     `json:"path"`
	Kind  fault.Kind `json:"kind"`
	Error string     `json:"error"`
}

func failure(err error) reply {
	return reply{V: protocolVersion, Kind: fault.KindOf(err), Error: err.Error()}
}

// parseRequest accepts nothing that the server would have to guess about.
func parseRequest(line []byte) (request, error) {
	var r request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fault.Errorf(fault.BadRequest, "request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, fault.Errorf(fault.BadRequest, "request: more than one JSON value on the line")
	}
	if r.V != protocolVersion {
		return r, fault.Errorf(fault.BadRequest, "request: version %d, and this daemon speaks %d: use the tokenfs that it was started with", r.V, protocolVersion)
	}
	if r.Skeleton != nil && r.Verb != verbSkeleton {
		return r, fault.Errorf(fault.BadRequest, "request: %s takes no skeleton", r.Verb)
	}
	if r.Paths != nil && r.Verb != verbWipe && !testVerb(r.Verb) {
		return r, fault.Errorf(fault.BadRequest, "request: %s takes no paths", r.Verb)
	}
	if r.Paths != nil && len(r.Paths) == 0 { // without paths it would be of everything
		return r, fault.Errorf(fault.BadRequest, "request: %s of an empty list of paths", r.Verb)
	}
	if (r.Seconds != 0 || r.Command != "") && r.Verb != verbHold || r.Lease != 0 && r.Verb != verbRelease {
		return r, fault.Errorf(fault.BadRequest, "request: %s is not about leases", r.Verb)
	}
	if (r.Leader > 0) != (r.Verb == verbLogin) {
		return r, fault.Errorf(fault.BadRequest, "request: login, and nothing else, needs the leader of a session")
	}
	switch r.Verb {
	case verbHold:
		if err := checkHold(r); err != nil {
			return r, err
		}
	case verbSkeleton:
		if err := checkSkeleton(r.Skeleton); err != nil {
			return r, err
		}
		r.dropEmpty()
	case verbWipe:
	case verbStatus, verbUnmount, verbUpgrade, verbRelease, verbLogin:
	default:
		if testVerb(r.Verb) {
			break
		}
		return r, fault.Errorf(fault.BadRequest, "request: unknown verb %.40q", r.Verb)
	}
	for _, p := range r.Paths {
		if err := mount.CheckRelative(p); err != nil {
			return r, err
		}
	}
	return r, nil
}

// dropEmpty makes lists that are there and empty the same as none.
func (r *request) dropEmpty() {
	if len(r.Skeleton) == 0 {
		r.Skeleton = nil
	}
	for i := range r.Skeleton {
		if len(r.Skeleton[i].Links) == 0 {
			r.Skeleton[i].Links = nil
		}
	}
}

func checkHold(r request) error {
	switch {
	case (r.Seconds == 0) == (r.Command == ""):
		return fault.Errorf(fault.BadRequest, "request: hold for seconds, or for a command")
	case r.Seconds < 0 || r.Seconds > int64(session.MaxHold/time.Second):
		return fault.Errorf(fault.BadRequest, "request: hold for %d seconds: the longest is %v", r.Seconds, session.MaxHold)
	case len(r.Command) > session.MaxCommandName:
		return fault.Errorf(fault.BadRequest, "request: the name of the command is longer than %d bytes", session.MaxCommandName)
	}
	return nil
}

// skeletonLimit leaves room around a skeleton in a request, and in what a
// worker is handed.
const skeletonLimit = requestLimit / 2

func checkSkeleton(folders []fs.Folder) error {
	if err := fs.CheckSkeleton(folders); err != nil {
		return fault.Errorf(fault.BadRequest, "skeleton: %w", err)
	}
	if line, err := encode(folders); err != nil || len(line) > skeletonLimit {
		return fault.Errorf(fault.BadRequest, "skeleton: more than %d bytes: link fewer apps, or directories with fewer entries", skeletonLimit)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return append(line, '\n'), nil
}
