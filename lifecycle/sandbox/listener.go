package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif (<linux/seccomp.h>): a thread waits for
// a verdict on its call.
type notification struct {
	id         uint64
	pid, flags uint32
	call       int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

// A Listener learns of the first system call that a process makes and its
// filter stops.
type Listener struct {
	file *os.File
	conn syscall.RawConn
}

// Listen takes the descriptor that Enter returned in the other process.
func Listen(fd int) (*Listener, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for forbidden system calls: %w", err)
	}
	f := os.NewFile(uintptr(fd), "seccomp")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("listen for forbidden system calls: %w", err)
	}
	return &Listener{f, conn}, nil
}

// Next waits for a call and names it. The thread that made it waits for ever:
// end the process. An error means that the process, or the Listener, has ended.
func (l *Listener) Next() (call string, err error) {
	var n notification
	waited := l.conn.Read(func(fd uintptr) bool {
		// To ask without looking first could block, and for ever.
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err = unix.Poll(ready, 0); err == unix.EINTR || err == nil && ready[0].Revents == 0 {
			err = nil
			return false
		}
		if err == nil && ready[0].Revents&unix.POLLIN == 0 {
			err = os.ErrClosed
		}
		if err == nil {
			n = notification{} // or the kernel refuses it
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
				err = errno
			}
		}
		return true
	})
	if err := errors.Join(waited, err); err != nil {
		return "", err
	}
	return callName(int(n.call)), nil
}

// Close ends a Next.
func (l *Listener) Close() { l.file.Close() }

func callName(call int) string {
	if native == nil {
		return fmt.Sprintf("number %d", call)
	}
	if name, ok := native.SyscallNumbers[call]; ok {
		return name
	}
	return fmt.Sprintf("number %d", call)
}
