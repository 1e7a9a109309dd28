// Package handover passes descriptors from one process of ours to another.
//
// No descriptor of the filesystem ever crosses an exec: a fresh process can be
// read by its user until its first instruction of ours has run. What crosses is
// one end of a socket pair. The new process makes itself unreadable, and then
// claims what it is to have: it makes another pair, and sends one end of that.
//
//	giver                                  taker
//	New ────────────── fork, exec ───────▶ (the end, and nothing else)
//	                                       process.Harden, process.CheckUnwatched
//	Accept      ◀───── an end of a pair ── Claim
//	SendState   ────── descriptors ──────▶ ReceiveState
//
// Two things decide who gets it, and neither is a pid. The end is no name that
// somebody could read or guess: only a process that may trace the taker could get
// at it. And with the claim the kernel tells which process sent it. The giver
// holds that one by its pidfd, which tells that it lives: so its pid is no other's.
//
// It must never know the filesystem.
package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/process"
)

// Timeout bounds each step of a handover. All of it takes microseconds,
// but on a machine that is overloaded a process may take its time to get there.
const Timeout = 5 * time.Second

// FD is where a process that was started finds its end. One that was
// replaced by exec is told.
const FD = 3

// A Giver is the giver's end.
type Giver struct{ conn *net.UnixConn }

// New also returns the end for the process that is to be started, for
// the caller to close.
func New() (h *Giver, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair for a handover: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "handover")
	if h, err = Open(fds[0]); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return h, theirs, nil
}

// Open takes over the giver's end as a descriptor.
func Open(fd int) (*Giver, error) {
	// The kernel then adds to each message whose it is.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("socket for a handover: SO_PASSCRED: %w", err)
	}
	conn, err := connOf(fd)
	if err != nil {
		return nil, err
	}
	return &Giver{conn}, nil
}

// connOf takes over a connected socket.
func connOf(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("socket for a handover: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("socket for a handover: it is of another family")
	}
	return u, nil
}

// Accept waits for a claim by p and by no other.
func (h *Giver) Accept(p process.Handle) (*net.UnixConn, error) {
	for range maxClaims {
		var fd, pid int
		err := readWithin(h.conn, Timeout, func() (err error) {
			fd, pid, err = h.next()
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("waiting for process %d: %w", p.Pid, err)
		}
		// In this order: it was p's pid when the message was sent, as p has lived
		// from before that until now.
		if fd >= 0 && pid == p.Pid && p.Alive() {
			return connOf(fd)
		}
		process.CloseAll([]int{fd})
	}
	return nil, fmt.Errorf("waiting for process %d: others claim what it is to have", p.Pid)
}

// maxClaims is how many are looked at: all but the last were a thief's.
const maxClaims = 100

// next receives a message, which may be anybody's: the descriptor that came with
// it, or -1, and the pid of its sender.
func (h *Giver) next() (fd, pid int, err error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	_, oobn, _, _, err := h.conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return -1, 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return -1, 0, nil
	}
	fd = -1
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) > 0 {
			process.CloseAll([]int{fd})
			fd = fds[0]
			process.CloseAll(fds[1:])
		} else if sender, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(sender.Pid)
		}
	}
	return fd, pid, nil
}

// File lends the giver's end, to be passed to the process that is to give.
func (h *Giver) File() (*os.File, error) { return h.conn.File() }

func (h *Giver) Close() { h.conn.Close() }

// Claim asks for what this process is to have. It comes after Harden,
// and uses up fd.
func Claim(fd int) (*net.UnixConn, error) {
	unix.CloseOnExec(fd)
	defer unix.Close(fd)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket pair for a handover: %w", err)
	}
	defer unix.Close(pair[1])
	if err := unix.Sendmsg(fd, []byte{0}, unix.UnixRights(pair[1]), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("claim what is to be handed over: %w", err)
	}
	return connOf(pair[0])
}

// stateLimit is for one message of a handover.
const stateLimit = 256 << 10

// SendState passes a value and descriptors, which stay the sender's: its length,
// with the descriptors, and then itself. So the receiver reads no more than it.
func SendState(conn *net.UnixConn, v any, fds ...int) error {
	body, err := json.Marshal(v)
	if err == nil && len(body) > stateLimit {
		err = fmt.Errorf("%d bytes are more than can be handed over", len(body))
	}
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	conn.SetWriteDeadline(time.Now().Add(Timeout))
	if _, _, err = conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), rights, nil); err == nil {
		_, err = conn.Write(body)
	}
	return err
}

// NoDeadline is for messages that come when they come.
const NoDeadline time.Duration = 0

// ReceiveState fills v and returns want descriptors.
func ReceiveState(conn *net.UnixConn, v any, want int) ([]int, error) {
	return ReceiveWithin(conn, Timeout, v, want, want)
}

// AwaitState waits as long as it takes for a value without descriptors.
func AwaitState(conn *net.UnixConn, v any) error {
	_, err := ReceiveWithin(conn, NoDeadline, v, 0, 0)
	return err
}

// ReceiveWithin takes from least to most descriptors. The limit is for the
// message to begin.
func ReceiveWithin(conn *net.UnixConn, limit time.Duration, v any, least, most int) ([]int, error) {
	length, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4*(most+1)))
	var n, oobn, flags int
	err := readWithin(conn, limit, func() (err error) {
		n, oobn, flags, _, err = conn.ReadMsgUnix(length, oob)
		return err
	})
	if err != nil {
		return nil, err
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range messages {
		list, rightsErr := unix.ParseUnixRights(&m)
		fds, err = append(fds, list...), errors.Join(err, rightsErr)
	}
	size := binary.BigEndian.Uint32(length)
	if err == nil && (n < len(length) || size > stateLimit) {
		err = errors.New("a handover's message has no length that makes sense")
	}
	if err == nil && (len(fds) < least || len(fds) > most || flags&unix.MSG_CTRUNC != 0) {
		err = fmt.Errorf("%d descriptors came, not %d", len(fds), most)
	}
	if err == nil {
		body := make([]byte, size)
		conn.SetReadDeadline(time.Now().Add(Timeout))
		if _, err = io.ReadFull(conn, body); err == nil {
			err = json.Unmarshal(body, v)
		}
	}
	conn.SetReadDeadline(time.Time{})
	if err != nil {
		process.CloseAll(fds)
		return nil, err
	}
	return fds, nil
}

// readWithin reads what is to begin within a limit. That is counted in steps, so
// that a pause of both processes, in a frozen cgroup, takes no more than one.
func readWithin(conn *net.UnixConn, limit time.Duration, read func() error) error {
	const step = Timeout / 10
	for waited := step; ; waited += step {
		var end time.Time
		if limit != NoDeadline {
			end = time.Now().Add(step)
		}
		conn.SetReadDeadline(end)
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || waited >= limit {
			return err
		}
	}
}

// A RightsReader reads a stream on which descriptors may come; it keeps the
// last one.
type RightsReader struct {
	Conn *net.UnixConn
	fds  []int
}

func (r *RightsReader) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := r.Conn.ReadMsgUnix(b, oob)
	if err != nil {
		return 0, err // recvmsg(2) has -1 then
	}
	if messages, e := unix.ParseSocketControlMessage(oob[:oobn]); e == nil {
		for _, m := range messages {
			r.Close()
			r.fds, _ = unix.ParseUnixRights(&m)
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Take returns the descriptor that came last, or -1.
func (r *RightsReader) Take() int {
	if len(r.fds) == 0 {
		return -1
	}
	fd := r.fds[0]
	r.fds = nil
	return fd
}

func (r *RightsReader) Close() {
	process.CloseAll(r.fds)
	r.fds = nil
}
