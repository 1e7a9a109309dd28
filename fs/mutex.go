package fs

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mutex is a lock for goroutines that are tied to threads. sync.Mutex would
// have the scheduler hand such a thread's turn over through a third thread;
// here who waits sleeps in the kernel, and who unlocks wakes it (futex(2),
// state as in Drepper, Futexes Are Tricky, mutex 2).
type mutex struct{ state atomic.Uint32 }

const (
	unlocked = iota
	held
	awaited // held, and somebody may sleep
)

// spins is for how long a lock is waited for without sleeping: about as long
// as a short request takes, which is less than falling asleep does.
const spins = 200

func (m *mutex) Lock() {
	for range spins {
		if m.state.Load() == unlocked && m.state.CompareAndSwap(unlocked, held) {
			return
		}
	}
	for m.state.Swap(awaited) != unlocked {
		m.futex(futexWait|futexPrivate, awaited)
	}
}

func (m *mutex) Unlock() {
	if m.state.Swap(unlocked) == awaited {
		m.futex(futexWake|futexPrivate, 1)
	}
}

// futex is a Syscall also to sleep: the collector must not wait for a thread
// that waits for one which it has stopped.
func (m *mutex) futex(op, value uintptr) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&m.state)), op, value, 0, 0, 0)
}

const futexPrivate = 128
