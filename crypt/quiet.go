package crypt

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Quiet ties the goroutine to its thread and blocks every signal there, for
// good. Keys may be touched on quiet threads only, and a thread must be quiet
// before its first key: a signal frame is a copy of all registers on a stack
// that nobody clears. It needs GODEBUG=asyncpreemptoff=1, or the collector
// waits for a preemption signal that never arrives.
func Quiet() {
	runtime.LockOSThread()
	all := ^uint64(0)
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK,
		uintptr(unsafe.Pointer(&all)), 0, unsafe.Sizeof(all), 0, 0)
	if errno != 0 {
		panic("internal error: rt_sigprocmask: " + errno.Error())
	}
	growStack()
}

// growStack makes the stack as large as it will get: growing leaves a copy of
// what was on it behind.
//
//go:noinline
func growStack() {
	var frame [32 << 10]byte
	runtime.KeepAlive(&frame)
}

// Quietly runs f on a quiet thread made for it.
func Quietly(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		Quiet() // never undone: the thread ends with the goroutine
		f()
		EndThread()
	}()
	<-done
}
