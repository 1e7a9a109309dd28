package process

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A process is known by its pidfd. A pid comes round again as soon as its
// process has been collected; a pidfd stands for one process for ever.
type Handle struct{ Pid, Fd int }

// This is for others to know this one by: it is alive, so the pid is its own.
func This() (Handle, error) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return Handle{}, fmt.Errorf("pidfd of this process: %w", err)
	}
	return Handle{os.Getpid(), fd}, nil
}

// Alive says whether it has not ended. While that is so its pid is no other's.
func (p Handle) Alive() bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.Fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}

func (p Handle) Kill() { unix.PidfdSendSignal(p.Fd, unix.SIGKILL, nil, 0) }

func (p Handle) Close() { CloseAll([]int{p.Fd}) }

func CloseAll(fds []int) {
	for _, fd := range slices.Backward(fds) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
