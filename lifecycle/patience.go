package lifecycle

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
)

// How long to go on starting workers that do not stay up. Giving up costs the
// user every sign-in. Going on costs whoever waits for an answer: a client whose
// request was read cannot even be killed.
//
// What a worker does by itself, be it that it crashes, refuses to start, cannot
// be started or stands still, the next one will do as well, unless the machine
// was short of something for a moment: so five in a row are enough, if they took
// two seconds. Standing still is to take no step for answerLimit: one that
// takes steps may take its time, since how many there are is up to the user's
// files and how fast they are to the machine.
//
// What is done to it, by kill(1) or the OOM killer, says nothing about the next
// one: it takes ten seconds without anybody serving until that is the end, too.
const (
	startLimit    = 5
	faultPatience = 2 * time.Second
	killPatience  = 10 * time.Second
	// steadyAfter is when a worker counts as up: crashing sooner is not to be.
	steadyAfter = 2 * time.Second
)

// patience is what is left of it. Its times are CLOCK_MONOTONIC's, which stands
// still while the machine sleeps; where only the processes were frozen it goes
// on, and so nothing is given up for time alone.
type patience struct {
	atStake bool // somebody served, so that there may be something to lose
	failed  int  // workers in a row
	faults  int  // of them, by themselves
	begun   time.Time
}

// note takes down how a worker ended, and since when it had served: zero if it
// had not come to that.
func (p *patience) note(served time.Time, end error) {
	var k killed
	outside := errors.As(end, &k)
	p.atStake = p.atStake || !served.IsZero()
	if !served.IsZero() && (outside || time.Since(served) >= steadyAfter) {
		p.failed, p.faults = 0, 0
		return
	}
	if p.failed == 0 {
		p.begun = time.Now()
	}
	p.failed++
	if !outside {
		p.faults++
	}
}

// blameFor is how much the end of a worker says about the request that it served.
func blameFor(end error) uint64 {
	if errors.As(end, new(killed)) {
		return fs.BlameKill
	}
	return fs.BlameCrash
}

func (p *patience) over() bool {
	took := time.Since(p.begun)
	if p.faults >= startLimit && (took >= faultPatience || !p.atStake) {
		return true
	}
	return p.failed >= startLimit && took >= killPatience
}

// pause is how long to wait before the next one: not at all for the first.
func (p *patience) pause() time.Duration {
	n := max(p.failed-1, 0)
	return time.Duration(min(n*n, 25)) * 10 * time.Millisecond
}

// killed is the end of a worker at somebody else's hand.
type killed struct{ unix.Signal }

func (k killed) Error() string {
	return fmt.Sprintf("killed by signal %d, %v", int(k.Signal), k.Signal)
}

// endOf says how a process ended, nil if by itself and in order. ours means
// that the keeper killed it.
func endOf(ws unix.WaitStatus, ours bool) error {
	switch {
	case ws.Signaled() && (ours || isFault(ws.Signal())):
		return errors.New(killed{ws.Signal()}.Error())
	case ws.Signaled():
		return killed{ws.Signal()}
	case ws.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", ws.ExitStatus())
	}
	return nil
}

// isFault says whether a signal is what the kernel sends a process for what it
// did itself.
func isFault(s unix.Signal) bool {
	switch s {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP, unix.SIGABRT, unix.SIGSYS, unix.SIGXCPU:
		return true
	}
	return false
}
