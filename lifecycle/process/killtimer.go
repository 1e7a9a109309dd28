package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A killTimer has the kernel end this process at a time, also if somebody has
// stopped it by then: a stopped process cannot end itself, and whoever holds
// keys must not hold them for ever. Neither fork nor exec passes it on.
type KillTimer struct{ Id int32 }

// sigevent is struct sigevent (<asm-generic/siginfo.h>).
type sigevent struct {
	value          uint64
	signal, notify int32
	_              [48]byte
}

const sigevSignal = 0

func NewKillTimer() (t KillTimer, err error) {
	event := sigevent{signal: int32(unix.SIGKILL), notify: sigevSignal}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.Id)))
	if errno != 0 {
		return t, fmt.Errorf("timer_create: %w", errno)
	}
	return t, nil
}

// Set begins anew; 0 stops it.
func (t KillTimer) Set(limit time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(limit))}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.Id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}

// KillAfter is one that is set.
func KillAfter(limit time.Duration) (KillTimer, error) {
	t, err := NewKillTimer()
	if err == nil {
		err = t.Set(limit)
	}
	return t, err
}

// PutOff sets it again and again while this process runs, until stop is called.
func (t KillTimer) PutOff(limit time.Duration) (stop func()) {
	t.Set(limit)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		again := time.NewTicker(limit / 10)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				t.Set(limit)
			case <-over:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(over)
		<-ended
		t.Set(0)
	})
}

// StillLimit is how long a process may be stopped while others wait for it. It is
// far more than any machine takes to let a process run, but a process that was
// frozen for so long in such a moment ends by it as well.
const StillLimit = 30 * time.Second

// ContinueAtEnd has the kernel continue this process, should somebody have stopped
// it, when the last process that can write to a pipe has ended, and whenever
// something is written.
func ContinueAtEnd(pipe *os.File) error {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	var async error
	err = raw.Control(func(fd uintptr) {
		flags, err1 := unix.FcntlInt(fd, unix.F_GETFL, 0)
		_, err2 := unix.FcntlInt(fd, unix.F_SETOWN, os.Getpid())
		_, err3 := unix.FcntlInt(fd, unix.F_SETSIG, int(unix.SIGCONT))
		if async = errors.Join(err1, err2, err3); async == nil {
			_, async = unix.FcntlInt(fd, unix.F_SETFL, flags|unix.O_ASYNC)
		}
	})
	return errors.Join(err, async)
}
