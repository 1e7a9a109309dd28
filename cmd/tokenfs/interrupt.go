package main

import (
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/apps"
)

// interruptible does n things one after the other. A signal ends that where
// nothing is half done; a second one ends it at once, and the next run settles
// what this one has left.
func interruptible(e *apps.Engine, n int, do func(i int) error) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	var received atomic.Int32
	go func() {
		s := <-signals
		received.Store(int32(s.(unix.Signal)))
		signal.Reset()
		complainf("%v: ending where nothing is half done", s)
	}()
	e.Interrupted = func() bool { return received.Load() != 0 }
	var failed []error
	for i := 0; i < n && !e.Interrupted(); i++ {
		if err := do(i); err != nil {
			failed = append(failed, err)
		}
	}
	err := errors.Join(failed...)
	if s := unix.Signal(received.Load()); s != 0 {
		if err != nil {
			complainf("%v", err)
		}
		signal.Reset()
		unix.Kill(os.Getpid(), s) // as whoever sent it expects
		time.Sleep(time.Second)
		return &reported{exitCode(128 + int(s))} // it is ignored here
	}
	signal.Stop(signals)
	return asUsage(err)
}
