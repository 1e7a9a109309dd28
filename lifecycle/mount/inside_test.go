package mount

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What is no namespace is refused, and nothing of the device is left.
func TestEnterNoNamespace(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var refused *Refused
	for _, n := range []Namespaces{{-1, int(null.Fd())}, {int(null.Fd()), int(null.Fd())}} {
		if err := n.Enterable(); !errors.As(err, &refused) || !errors.Is(refused.Err, unix.EINVAL) {
			t.Errorf("%+v: %v", n, err)
		}
		if fd, err := n.Mount("/nowhere", Options{Source: "x"}); err == nil || fd != -1 {
			t.Errorf("%+v: mounted as %d, %v", n, fd, err)
		}
	}
}

// The child has nothing of Go's runtime, whose other threads are at work meanwhile.
func TestEnterWhileOthersWork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to enter a namespace of its own")
	}
	n, err := TheseNamespaces(false)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Enterable(); err != nil {
		t.Skipf("NOT RUN: root may enter no namespaces here: %v", err)
	}
	over := make(chan struct{})
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					_ = make([]byte, 1<<16)
					runtime.Gosched()
				}
			}
		})
	}
	for range 300 {
		if err := n.Enterable(); err != nil {
			t.Fatal(err)
		}
		if fd, err := n.Mount("/nowhere/at/all", Options{Source: "x"}); !errors.Is(err, unix.ENOENT) || fd != -1 {
			t.Fatalf("mounted as %d, %v", fd, err)
		}
	}
	close(over)
	others.Wait()
}
