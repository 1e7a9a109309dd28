package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Siginfo is what waitid(2) fills of siginfo_t, 128 bytes on 64-bit machines:
// code says what became of the process, and status with which status or signal.
type Siginfo struct {
	signo, errno, Code, _ int32
	pid, uid, Status      int32
	_                     [100]byte
}

// StatusSignal and the number of a signal is the exit status of a command that it
// killed, as shells have it.
const StatusSignal = 128

// Codes, see <asm-generic/siginfo.h>.
const (
	CldExited  = 1
	CldStopped = 5
)

func Waitid(pid int, info *Siginfo, options int) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(info)), uintptr(options), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
