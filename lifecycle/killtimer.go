package lifecycle

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A killTimer has the kernel end this process at a time, also if somebody has
// stopped it by then: a stopped process cannot end itself, and whoever holds
// keys must not hold them for ever. Neither fork nor exec passes it on.
type killTimer struct{ id int32 }

// sigevent is struct sigevent (<asm-generic/siginfo.h>).
type sigevent struct {
	value          uint64
	signal, notify int32
	_              [48]byte
}

const sigevSignal = 0

func newKillTimer() (t killTimer, err error) {
	event := sigevent{signal: int32(unix.SIGKILL), notify: sigevSignal}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id)))
	if errno != 0 {
		return t, fmt.Errorf("timer_create: %w", errno)
	}
	return t, nil
}

// set begins anew; 0 stops it.
func (t killTimer) set(limit time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(limit))}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}

// killAfter is one that is set.
func killAfter(limit time.Duration) (killTimer, error) {
	t, err := newKillTimer()
	if err == nil {
		err = t.set(limit)
	}
	return t, err
}

// putOff sets it again and again until done: this process runs.
func (t killTimer) putOff(limit time.Duration, done <-chan struct{}) {
	again := time.NewTicker(limit / 10)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			t.set(limit)
		case <-done:
			t.set(0)
			return
		}
	}
}
