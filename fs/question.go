package fs

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// Of who sends a request a Server knows the number of a thread. What else it
// must know it asks the process that has started it, which may look. Question
// and answer are a few numbers each, in memory that both have mapped: one
// question at a time for each slot, and one word to wake who answers.
//
//	state     a serial number and one of the phases
//	want      what is to be known, see Answer
//	thread    the one in question
//	other     another one
//	answer    see Answer
//	lock      of alive
//
// Who answers believes nothing: any two numbers are a question. Who asks waits
// for askLimit at most.

// Answer is what can be said of a thread.
type Answer uint32

const (
	AnswerKilled Answer = 1 << iota // it ends, because it was killed
	AnswerSame                      // it is of the same process as the other one
)

// askLimit bounds how long a request waits for an answer.
const askLimit = time.Second

const (
	phaseIdle = iota
	phaseAsked
	phaseAnswered
	phaseMask = 3
	nextAsked = 4 // added to the state, this is another question
)

// question is where one is asked; as often as not by a process that has ended.
type question struct{ state, want, thread, other, answer, lock uint32 }

func questionAt(slots []byte, slot int) *question {
	return as[question](slots[questionsOff+slot*questionSize:])
}

// ask says what another process knows of a thread, if that answers in time. Of one
// that is alive it must not ask whether it was killed: that waits for the end of an
// exec, and the exec for this request.
func (s *Server) ask(slot int, want Answer, thread, other uint32) (Answer, bool) {
	q := questionAt(s.mem.Slots(), slot)
	asked := atomic.LoadUint32(&q.state)&^phaseMask + nextAsked | phaseAsked
	atomic.StoreUint32(&q.want, uint32(want))
	atomic.StoreUint32(&q.thread, thread)
	atomic.StoreUint32(&q.other, other)
	atomic.StoreUint32(&q.state, asked)
	bell := word32(s.mem.Slots(), bellWord)
	atomic.AddUint32(bell, 1)
	futex(bell, futexWake, 1, nil)
	for end := time.Now().Add(askLimit); ; {
		if atomic.LoadUint32(&q.state) == asked&^phaseMask|phaseAnswered {
			return Answer(atomic.LoadUint32(&q.answer)), true
		}
		left := unix.NsecToTimespec(int64(time.Until(end)))
		if left.Nano() <= 0 {
			atomic.CompareAndSwapUint32(&q.state, asked, asked&^phaseMask) // which is phaseIdle
			s.logf("what thread %d is about was not answered within %v", thread, askLimit)
			return 0, false
		}
		crypt.BeginWait()
		futex(&q.state, futexWait, asked, &left)
		crypt.EndWait()
	}
}

// AnswerQuestions answers what servers of these slots ask, and never returns.
func AnswerQuestions(slots []byte, look func(want Answer, thread, other uint32) Answer) {
	bell := word32(slots, bellWord)
	for {
		rung := atomic.LoadUint32(bell)
		for slot := range slotCount {
			answerQuestion(questionAt(slots, slot), look)
		}
		futex(bell, futexWait, rung, nil)
	}
}

func answerQuestion(q *question, look func(want Answer, thread, other uint32) Answer) {
	asked := atomic.LoadUint32(&q.state)
	if asked&phaseMask != phaseAsked {
		return
	}
	answer := look(Answer(atomic.LoadUint32(&q.want)), atomic.LoadUint32(&q.thread), atomic.LoadUint32(&q.other))
	atomic.StoreUint32(&q.answer, uint32(answer))
	// Or it was given up, and perhaps another one asked: the bell was rung again.
	if atomic.CompareAndSwapUint32(&q.state, asked, asked&^phaseMask|phaseAnswered) {
		futex(&q.state, futexWake, 1, nil)
	}
}

// alive says whether a thread is known not to be ending. Most are alive, and then
// nobody need be asked. A thread that ends gives its memory back first; from then
// on the kernel takes it for the owner of no lock: trying to get one that is said
// to be its own fails with ESRCH instead of EAGAIN (FUTEX_TRYLOCK_PI, futex(2)).
func (s *Server) alive(slot int, thread uint32) bool {
	lock := &questionAt(s.mem.Slots(), slot).lock
	atomic.StoreUint32(lock, thread)
	return futex(lock, futexTrylockPI, 0, nil) == unix.EAGAIN
}

// futex(2) operations on memory that processes share.
const (
	futexWait      = 0
	futexWake      = 1
	futexTrylockPI = 8
)

func futex(word *uint32, op uintptr, value uint32, limit *unix.Timespec) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), op, uintptr(value), uintptr(unsafe.Pointer(limit)), 0, 0)
	return errno
}
