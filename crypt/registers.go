package crypt

import "golang.org/x/sys/unix"

// Vector registers hold round keys after a seal, an open or a key set-up, and
// contents after a copy. While a thread waits, the kernel keeps them in its own
// memory, in the direct map; there they would outlive a wipe, and in a freed
// task even the process. So they are overwritten
//
//	after each use of a key             overwriteRegisters
//	while a thread waits for requests   ReadAtRest
//	before it waits for anything else   BeginWait, and EndWait behind it
//	before a thread ends                EndThread
//
// The kernel saves a component of this state (SSE, the upper halves of AVX,
// those of AVX-512, its further registers, its masks) only if it is not in its
// initial state, zero: XSAVEC and XSAVES leave what an earlier switch of threads
// saved. So the registers are filled with ones, and the upper halves still hold
// them when the thread waits: VZEROUPPER, without which SSE instructions may be
// slow, comes after the wait.
//
// What a thread has in its registers when it is killed, or loses the CPU in the
// middle of a block, is saved all the same, until it waits the next time.

// BeginWait overwrites all vector registers. Call it on a quiet thread at the
// end of each piece of work, right before it waits. The runtime has the last word
// then, see wait.go: what an earlier switch saved of upper halves may stay.
func BeginWait() {
	if !Unprotected {
		fillRegisters()
	}
}

// EndWait follows the wait of BeginWait.
func EndWait() { zeroUpperHalves() }

// overwriteRegisters is for a thread that goes on.
func overwriteRegisters() {
	if !Unprotected {
		fillRegisters()
		zeroUpperHalves()
	}
}

// EndThread is the last thing that a thread does that has touched keys or
// contents. What the kernel saved of it, it frees as it is, and it saves nothing
// of a thread that ends: so this waits once more.
func EndThread() {
	BeginWait()
	t := unix.Timespec{Nsec: 100_000} // less might be over before the thread sleeps
	unix.Nanosleep(&t, nil)
}
