package lifecycle

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A process is known by its pidfd. A pid comes round again as soon as its
// process has been collected; a pidfd stands for one process for ever.
type process struct{ pid, fd int }

// thisProcess is for others to know this one by: it is alive, so the pid is its own.
func thisProcess() (process, error) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return process{}, fmt.Errorf("pidfd of this process: %w", err)
	}
	return process{os.Getpid(), fd}, nil
}

// alive says whether it has not ended. While that is so its pid is no other's.
func (p process) alive() bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}

func (p process) kill() { unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0) }

func (p process) close() { closeAll([]int{p.fd}) }

func closeAll(fds []int) {
	for _, fd := range slices.Backward(fds) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
