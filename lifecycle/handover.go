package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// No descriptor of the filesystem ever crosses an exec: a fresh process can be
// read by its user until its first instruction of ours has run. So it makes
// itself unreadable first, and then asks for them over a socket, whose two ends
// know each other by the kernel's word for their pids.

// handoverTimeout bounds each step of a handover. All of it takes microseconds,
// but on a machine that is overloaded a process may take its time to get there.
const handoverTimeout = 5 * time.Second

// A handover is a socket in the abstract namespace that waits for one process.
type handover struct{ listener *net.UnixListener }

// newHandover has the kernel choose a name: nobody can have claimed it before.
func newHandover() (*handover, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket for a process to come: %w", err)
	}
	return &handover{l}, nil
}

func (h *handover) name() string { return h.listener.Addr().String() }

// accept waits for process pid and no other.
func (h *handover) accept(pid int) (*net.UnixConn, error) {
	h.listener.SetDeadline(time.Now().Add(handoverTimeout))
	for {
		conn, err := h.listener.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("waiting for process %d: %w", pid, err)
		}
		if peer, err := peerOf(conn); err == nil && int(peer.Pid) == pid {
			return conn, nil
		}
		conn.Close() // somebody who read the name on a command line
	}
}

func (h *handover) close() { h.listener.Close() }

// connectTo connects to the handover that process pid holds open.
func connectTo(name string, pid int) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to process %d: %w", pid, err)
	}
	if peer, err := peerOf(conn); err != nil || int(peer.Pid) != pid {
		conn.Close()
		return nil, fmt.Errorf("the socket is not process %d's", pid)
	}
	return conn, nil
}

// sendState passes a value and descriptors, which stay the sender's.
func sendState(conn *net.UnixConn, v any, fds ...int) error {
	line, err := encode(v)
	if err != nil {
		return err
	}
	conn.SetWriteDeadline(time.Now().Add(handoverTimeout))
	_, _, err = conn.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
	return err
}

// noDeadline is for messages that come when they come.
var noDeadline time.Time

// receiveState fills v and returns want descriptors.
func receiveState(conn *net.UnixConn, v any, want int) ([]int, error) {
	return receiveWithin(conn, handoverTimeout, v, want)
}

func receiveWithin(conn *net.UnixConn, limit time.Duration, v any, want int) ([]int, error) {
	conn.SetReadDeadline(time.Now().Add(limit))
	return receiveFDs(conn, v, want, want)
}

// awaitState is receiveState without descriptors and without a deadline.
func awaitState(conn *net.UnixConn, v any) error {
	conn.SetReadDeadline(noDeadline)
	_, err := receiveFDs(conn, v, 0, 0)
	return err
}

// receiveFDs takes from least to most descriptors.
func receiveFDs(conn *net.UnixConn, v any, least, most int) ([]int, error) {
	buf, oob := make([]byte, requestLimit), make([]byte, unix.CmsgSpace(4*(most+1)))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range messages {
		list, rightsErr := unix.ParseUnixRights(&m)
		fds, err = append(fds, list...), errors.Join(err, rightsErr)
	}
	if err == nil && (len(fds) < least || len(fds) > most || flags&unix.MSG_CTRUNC != 0) {
		err = fmt.Errorf("%d descriptors came, not %d", len(fds), most)
	}
	if err == nil {
		err = json.Unmarshal(buf[:n], v)
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

// A rightsReader reads a stream on which descriptors may come; it keeps the
// last one.
type rightsReader struct {
	conn *net.UnixConn
	fds  []int
}

func (r *rightsReader) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(b, oob)
	if messages, e := unix.ParseSocketControlMessage(oob[:oobn]); e == nil {
		for _, m := range messages {
			r.close()
			r.fds, _ = unix.ParseUnixRights(&m)
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// take returns the descriptor that came last, or -1.
func (r *rightsReader) take() int {
	if len(r.fds) == 0 {
		return -1
	}
	fd := r.fds[0]
	r.fds = nil
	return fd
}

func (r *rightsReader) close() {
	closeAll(r.fds)
	r.fds = nil
}

func closeAll(fds []int) {
	for _, fd := range slices.Backward(fds) {
		unix.Close(fd)
	}
}
