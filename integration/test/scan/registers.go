package scan

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Thread is a thread of a process, with the registers that the kernel keeps
// while it does not run: memory of the kernel's, which Process does not see.
type Thread struct {
	TID     int
	General []byte // as in ptrace's NT_PRSTATUS
	Vector  []byte // on x86 XSAVE's standard form, on arm64 V0 to V31
}

// Threads reads the registers of all threads of a process. Each is interrupted
// for a moment and goes on as if nothing had been; a signal it does not get.
func Threads(pid int) ([]Thread, error) {
	// The kernel knows a tracer by its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var all []Thread
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, fmt.Errorf("threads of process %d: %w", pid, err)
		}
		t := Thread{TID: tid}
		switch err := t.read(); err {
		case nil:
			all = append(all, t)
		case unix.ESRCH: // it has ended
		default:
			return nil, fmt.Errorf("registers of thread %d: %w", tid, err)
		}
	}
	return all, nil
}

// WaitedIn says whether the thread was interrupted while it waited in a system call.
func (t *Thread) WaitedIn(call int) bool {
	word := func(i int) int64 { return int64(binary.NativeEndian.Uint64(t.General[8*i:])) }
	if runtime.GOARCH == "arm64" {
		return word(8) == int64(call) // x8; struct user_pt_regs
	}
	// rax and orig_rax in struct user_regs_struct. The kernel's own errors from
	// ERESTARTSYS to ERESTART_RESTARTBLOCK say that the call is to go on.
	return word(15) == int64(call) && word(10) >= -516 && word(10) <= -512
}

func (t *Thread) read() error {
	if err := unix.PtraceSeize(t.TID); err != nil {
		return err
	}
	defer unix.PtraceDetach(t.TID)
	if err := unix.PtraceInterrupt(t.TID); err != nil {
		return err
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(t.TID, &ws, unix.WALL, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	if !ws.Stopped() {
		return unix.ESRCH
	}
	var err error
	if t.General, err = t.set(unix.NT_PRSTATUS); err == nil {
		t.Vector, err = t.set(vectorSet)
	}
	return err
}

func (t *Thread) set(which uintptr) ([]byte, error) {
	buf := make([]byte, 32<<10)
	v := unix.Iovec{Base: &buf[0]}
	v.SetLen(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(t.TID), which, uintptr(unsafe.Pointer(&v)), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return buf[:v.Len], nil
}

// Search reports every stretch of a secret in the registers.
func (t *Thread) Search(found func(Found), sets ...*Set) {
	for _, s := range sets {
		s.Search(t.General, 0, found)
		s.Search(t.Vector, 0, found)
	}
}

// vectorComponents are those of XSAVE with vector registers, and their names
// (Intel's manual, volume 1, 13.1).
var vectorComponents = map[int]string{1: "SSE", 2: "AVX", 5: "AVX-512 masks", 6: "AVX-512 upper halves", 7: "AVX-512 registers 16 to 31"}

// Initial names the components of the vector registers that this machine has and
// that were in their initial state when the thread began to wait: the kernel
// then leaves in its memory what it saved the time before. Only x86 has that.
func (t *Thread) Initial() (names []string) {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	const offered, saved = 464, 512 // struct user_xstateregs in arch/x86/include/asm/user.h; XSTATE_BV
	lacks := binary.LittleEndian.Uint64(t.Vector[offered:]) &^ binary.LittleEndian.Uint64(t.Vector[saved:])
	for bit, name := range vectorComponents {
		if lacks&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
