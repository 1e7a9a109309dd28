package fs

import (
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestQuestion(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	b.answers(t, func(want Answer, thread, other uint32) Answer { return Answer(thread ^ other) })
	for i := range uint32(100) {
		if a, ok := b.ask(0, AnswerSame, 1000+i, 7); !ok || a != Answer((1000+i)^7) {
			t.Fatalf("question %d: %d, %v", i, a, ok)
		}
	}
}

// An answer that comes late is not that to the next question.
func TestLateAnswer(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	q := questionAt(b.mem.Slots(), 0)
	asked, answer := make(chan struct{}), make(chan struct{})
	late := func(want Answer, thread, other uint32) Answer {
		close(asked)
		<-answer
		return Answer(thread)
	}
	go func() {
		for atomic.LoadUint32(&q.state)&phaseMask != phaseAsked {
			runtime.Gosched()
		}
		answerQuestion(q, late)
		answer <- struct{}{}
	}()
	if _, ok := b.ask(0, AnswerSame, 11, 0); ok {
		t.Fatal("answered in time")
	}
	<-asked
	second := make(chan Answer)
	go func() {
		a, _ := b.ask(0, AnswerSame, 22, 0)
		second <- a
	}()
	for atomic.LoadUint32(&q.state)&phaseMask != phaseAsked {
		runtime.Gosched()
	}
	answer <- struct{}{}
	<-answer
	answerQuestion(q, func(want Answer, thread, other uint32) Answer { return Answer(thread) })
	if a := <-second; a != 22 {
		t.Errorf("the answer to the second question is %d", a)
	}
}

// TestAnswerQuestions has two ends as two processes are.
func TestAnswerQuestions(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	b.keep() // AnswerQuestions never returns
	go AnswerQuestions(b.mem.Slots(), func(want Answer, thread, other uint32) Answer { return Answer(thread + other) })
	for i := range uint32(1000) {
		slot := int(i % slotCount)
		if a, ok := b.ask(slot, AnswerSame, i, 5); !ok || a != Answer(i+5) {
			t.Fatalf("question %d: %d, %v", i, a, ok)
		}
	}
}

// FuzzQuestion leaves anything in the memory where questions stand. Who answers
// comes to an end, and who asks gets an answer to what was asked.
func FuzzQuestion(f *testing.F) {
	f.Add(uint32(0), uint32(0), uint32(0), uint32(0))
	f.Add(uint32(phaseAsked), uint32(1<<32-1), uint32(0), uint32(7))
	f.Add(uint32(1<<32-1), uint32(1), uint32(1), uint32(1))
	f.Add(uint32(1<<32-3), uint32(1), uint32(1), uint32(1))
	b := newBench(f, 1<<20, 16)
	f.Fuzz(func(t *testing.T, state, thread, other, answer uint32) {
		q := questionAt(b.mem.Slots(), 0)
		*q = question{state: state, want: answer, thread: thread, other: other, answer: answer}
		answerQuestion(q, func(want Answer, th, o uint32) Answer {
			if th != thread || o != other {
				t.Errorf("asked of %d and %d", th, o)
			}
			return 1
		})
		b.answers(t, func(want Answer, thread, other uint32) Answer { return Answer(thread) })
		if a, ok := b.ask(0, AnswerSame, thread, other); !ok || a != Answer(thread) {
			t.Errorf("%d, %v", a, ok)
		}
		b.silence()
	})
}

// Every kind of thread that is not ending is known to be alive, and none that is
// ending or has ended.
func TestAlive(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child := uint32(cmd.Process.Pid)
	if !b.alive(0, child) {
		t.Error("a process is not known to be alive: every save will ask")
	}
	if b.alive(0, 0) || b.alive(0, 1<<30-1) {
		t.Error("nobody is taken to be alive")
	}
	// A thread of this process that is not the calling one.
	tid, done := make(chan int), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		<-done
	}()
	if !b.alive(0, uint32(<-tid)) {
		t.Error("a thread is not known to be alive")
	}
	close(done)
	cmd.Process.Kill()
	// It becomes a zombie, which is what a process is also while its files close.
	for deadline := time.Now().Add(10 * time.Second); b.alive(0, child); {
		if time.Now().After(deadline) {
			t.Fatal("a process that was killed is taken to be alive")
		}
		runtime.Gosched()
	}
	cmd.Wait()
	if b.alive(0, child) {
		t.Error("a process that is gone is taken to be alive")
	}
}
