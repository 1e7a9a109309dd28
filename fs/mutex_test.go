package fs

import (
	"runtime"
	"sync"
	"testing"
)

// Threads that wait for the lock sleep, and each is woken in its turn.
func TestMutex(t *testing.T) {
	const threads, rounds = 8, 20000
	var m mutex
	var count int
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			for i := range rounds {
				m.Lock()
				count++
				if i%64 == 0 {
					runtime.Gosched() // holds it for long
				}
				m.Unlock()
			}
		})
	}
	all.Wait()
	if count != threads*rounds {
		t.Errorf("%d of %d changes under the lock were kept", count, threads*rounds)
	}
	if s := m.state.Load(); s != unlocked {
		t.Errorf("the lock is in state %d, and nobody holds it", s)
	}
}
