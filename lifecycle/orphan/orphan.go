//go:build amd64 || arm64

// Package orphan lets a process outlive the one that started it, for a moment:
// long enough to destroy what it holds, and no longer, whatever state it is in.
//
// PR_SET_PDEATHSIG with SIGKILL would end it at once. With a signal that it
// handles it could go on for ever: stopped, or with a runtime that schedules
// nothing any more. So
//
//   - SIGCONT is one of the signals of the death: a stopped process goes on;
//   - the other one has a handler that is not Go's and needs nothing of it. It
//     starts a timer of the kernel's, whose signal is SIGKILL.
//
// Whoever sends that signal to the process, which takes the right to kill it,
// ends it with some delay.
package orphan

import (
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alarm is the signal with that handler. Go programs do nothing by themselves
// when they get it.
const alarm = unix.SIGUSR1

// What the handler gives to timer_settime(2).
var (
	//lint:ignore U1000 the assembly uses it
	timer int32
	limit unix.ItimerSpec
)

// Survive has the process live on for d at most when the thread ends that
// started it. t is a timer of timer_create(2), on CLOCK_MONOTONIC, whose signal is
// SIGKILL. Call it on the main thread, which must be tied to its goroutine, before
// the process is in a sandbox. If it fails, the process ends with that thread.
func Survive(t int32, d time.Duration) error {
	timer, limit.Value = t, unix.NsecToTimespec(int64(d))
	if unix.Gettid() != os.Getpid() {
		panic("internal error: not the main thread")
	}
	if err := survive(); err != nil {
		return fmt.Errorf("outlive the parent: %w", err)
	}
	return nil
}

func survive() error {
	if err := setHandler(); err != nil {
		return err
	}
	// Each thread has a signal of its own for this event.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGCONT), 0, 0, 0)
		select {} // the thread stays
	}()
	if err := <-done; err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(alarm), 0, 0, 0)
}

func setHandler() error {
	const (
		restart  = 0x10000000 // SA_RESTART
		onStack  = 0x08000000 // SA_ONSTACK: goroutines' own are too small
		restorer = 0x04000000 // SA_RESTORER
	)
	action := struct { // struct sigaction, as the kernel has it
		handler, flags, restorer uintptr
		mask                     uint64
	}{flags: restart | onStack, mask: ^uint64(0)}
	action.handler, action.restorer = addresses()
	if action.restorer != 0 {
		action.flags |= restorer
	}
	_, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(alarm), uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(action.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
