package lifecycle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// maxClients are served at a time; more of them wait.
const maxClients = 16

// A control is the server's end of the control socket.
type control struct {
	listener *net.UnixListener
	parent   *os.File // directory of the socket
	name     string   // of the socket in it
	inode    uint64   // of the socket, so as to remove no other one
	handle   func(request) reply
	logf     func(format string, args ...any)

	answering sync.RWMutex // read-locked from a request to the end of its answer
}

// socketPath is where the control socket of a mountpoint is: beside it, so
// that it is there before and after the mount.
func socketPath(mountpoint string) string { return mountpoint + socketSuffix }

const socketSuffix = ".sock"

// at names a file in a directory by descriptor. It keeps socket addresses
// below their 108 bytes, and means the same file if the path is moved.
func at(dir *os.File, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name) }

// listen claims the control socket of mountpoint. The caller holds the
// lock of the place, so nobody else is claiming it.
func listen(mountpoint string) (_ *control, err error) {
	path := socketPath(mountpoint)
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fault.Errorf(fault.Mountpoint, "control socket: %w", err)
	}
	c := &control{parent: parent, name: filepath.Base(path)}
	defer func() {
		if err != nil {
			parent.Close()
		}
	}()
	if err := c.removeStale(path); err != nil {
		return nil, err
	}
	// The mode of a socket file is that of the socket when it is bound: there
	// is no moment at which others could connect.
	private := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var chmod error
		err := raw.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	l, err := private.Listen(context.Background(), "unix", at(parent, c.name))
	if err != nil {
		return nil, fault.Errorf(fault.Mountpoint, "control socket %s: %w: its directory must be one that you may write to", path, errors.Unwrap(err))
	}
	c.listener = l.(*net.UnixListener)
	c.listener.SetUnlinkOnClose(false) // it does so by name; see remove
	st, err := c.lstat()
	if err != nil {
		c.listener.Close()
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	c.inode = st.Ino
	return c, nil
}

func (c *control) lstat() (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(c.parent.Fd()), c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// removeStale removes the socket of a daemon that is gone, and nothing else.
func (c *control) removeStale(path string) error {
	st, err := c.lstat()
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fault.Errorf(fault.Mountpoint, "control socket %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fault.Errorf(fault.Mountpoint, "%s is in the way of the control socket and is not a socket: move it away", path)
	case int(st.Uid) != os.Geteuid():
		return fault.Errorf(fault.Mountpoint, "%s is in the way of the control socket and belongs to uid %d: choose another mountpoint", path, st.Uid)
	}
	// A daemon that is just ending takes its socket away by itself.
	for deadline := time.Now().Add(endingTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		peer, err := net.DialTimeout("unix", at(c.parent, c.name), answerTimeout)
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			if err := unix.Unlinkat(int(c.parent.Fd()), c.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return fault.Errorf(fault.Mountpoint, "remove the stale control socket %s: %w", path, err)
			}
			return nil
		case errors.Is(err, unix.ENOENT):
			return nil
		case err == nil:
			peer.Close()
		}
	}
	return fault.Errorf(fault.Mountpoint, "%s: another process listens there, although nothing is mounted: look for it with ss -xlp, or choose another mountpoint", path)
}

// serve answers clients until the listener is closed.
func (c *control) serve(handle func(request) reply, logf func(string, ...any)) {
	c.handle, c.logf = handle, logf
	slots := make(chan struct{}, maxClients)
	for {
		slots <- struct{}{}
		conn, err := c.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			logf("control socket: %v", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, perhaps: others will close some
			<-slots
			continue
		}
		go func() {
			defer func() { conn.Close(); <-slots }()
			c.talk(conn)
		}()
	}
}

func (c *control) talk(conn *net.UnixConn) {
	send := func(r reply) error {
		r.V = protocolVersion
		line, err := r.encode()
		defer clear(line)
		r.forget()
		if err == nil {
			conn.SetWriteDeadline(time.Now().Add(requestTimeout))
			_, err = conn.Write(line)
		}
		return err
	}
	peer, err := peerOf(conn)
	if err != nil || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		send(failure(fault.Errorf(fault.Failed, "this filesystem is not yours")))
		return
	}
	in := bufio.NewReaderSize(conn, requestLimit)
	for {
		conn.SetReadDeadline(time.Now().Add(requestTimeout))
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			send(failure(fault.Errorf(fault.BadRequest, "request: longer than %d bytes", requestLimit)))
			return
		}
		if err != nil {
			return // gone, or idle for too long
		}
		c.answering.RLock()
		err = send(c.answer(line, peer))
		c.answering.RUnlock()
		if err != nil {
			return
		}
	}
}

// answer outlives a mistake of ours: it must not cost the filesystem.
func (c *control) answer(line []byte, peer *unix.Ucred) (answer reply) {
	defer func() {
		if p := recover(); p != nil {
			c.logf("internal error: %v\n%s", p, debug.Stack())
			answer = failure(errors.New("internal error in the daemon: please report what its log says"))
		}
	}()
	r, err := parseRequest(line)
	if err != nil {
		return failure(err)
	}
	r.peer = peer
	return c.handle(r)
}

// peerOf asks the kernel who is at the other end. For a client that is the
// process that called listen, which cannot be forged.
func peerOf(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return cred, err
}

// remove takes the socket's file away, if it is still the one bound here.
func (c *control) remove() error {
	st, err := c.lstat()
	if errors.Is(err, unix.ENOENT) || err == nil && st.Ino != c.inode {
		return nil
	}
	if err == nil {
		err = unix.Unlinkat(int(c.parent.Fd()), c.name, 0)
	}
	if err != nil {
		return fmt.Errorf("remove the control socket %s: %w", c.name, err)
	}
	return nil
}

// close stops listening; clients that are being answered get their answer.
func (c *control) close() error {
	c.listener.Close()
	err := c.remove()
	c.parent.Close()
	return err
}

// drain waits for the last answers to go out. After that there are no others.
func (c *control) drain(timeout time.Duration) {
	idle := make(chan struct{})
	go func() { c.answering.Lock(); close(idle) }()
	select {
	case <-idle:
	case <-time.After(timeout):
	}
}
