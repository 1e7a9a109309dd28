package fs

import (
	"sync/atomic"
	"time"
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

func (m *mutex) Unlock() { m.unlock() }

// unlock says whether somebody slept.
func (m *mutex) unlock() bool {
	slept := m.state.Swap(unlocked) == awaited
	if slept {
		m.futex(futexWake|futexPrivate, 1)
	}
	return slept
}

// Yield lets those in who sleep: who unlocks and locks again at once would win
// against a thread that has to wake up first.
func (m *mutex) Yield() {
	if slept := m.unlock(); slept {
		const whole, part = time.Millisecond, 20 * time.Microsecond
		for waited := time.Duration(0); waited < whole && m.state.Load() == unlocked; waited += part {
			t := unix.NsecToTimespec(int64(part))
			unix.Nanosleep(&t, nil)
		}
	}
	m.Lock()
}

// futex is a Syscall also to sleep: the collector must not wait for a thread
// that waits for one which it has stopped.
func (m *mutex) futex(op, value uintptr) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&m.state)), op, value, 0, 0, 0)
}

const futexPrivate = 128
