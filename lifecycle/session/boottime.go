package session

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// bootNow is the time since the machine was booted, suspended or not: a grace
// of ten seconds is over when a lid is opened the next morning.
func bootNow() time.Duration {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // cannot fail
	return time.Duration(now.Nano())
}

// A bootTimer goes off at a time on that clock.
type bootTimer struct {
	file *os.File
	c    chan struct{}
}

func newBootTimer() (*bootTimer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	t := &bootTimer{os.NewFile(uintptr(fd), "timer"), make(chan struct{}, 1)}
	go func() {
		for count := make([]byte, 8); ; {
			if _, err := t.file.Read(count); err != nil {
				return // closed
			}
			select {
			case t.c <- struct{}{}:
			default:
			}
		}
	}()
	return t, nil
}

// set replaces the time, which may have passed; 0 means never.
func (t *bootTimer) set(at time.Duration) {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return // closed
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	raw.Control(func(fd uintptr) { unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil) })
}

func (t *bootTimer) stop() { t.file.Close() }
