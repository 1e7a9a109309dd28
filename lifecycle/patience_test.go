package lifecycle

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestPatience(t *testing.T) {
	crashed := errors.New("exit status 2")
	shot := fmt.Errorf("it ended before it was ready (%w)", killed{unix.SIGKILL})
	for _, c := range []struct {
		what    string
		atStake bool
		end     error
		every   time.Duration // between two ends
		serves  time.Duration // before each
		after   int           // ends it is over; 0: never
	}{
		{"crashes, nothing to lose", false, crashed, 10 * time.Millisecond, 0, 5},
		{"crashes", true, crashed, 10 * time.Millisecond, 0, 201},
		{"crashes slowly", true, crashed, time.Second, 0, 5},
		{"stands still", true, crashed, answerLimit, 0, 5},
		{"is killed", true, shot, 100 * time.Millisecond, 0, 101},
		{"is killed, nothing to lose", false, shot, 100 * time.Millisecond, 0, 101},
		{"is killed slowly", true, shot, 4 * time.Second, 0, 5},
		{"is killed after it served", true, shot, 10 * time.Millisecond, time.Millisecond, 0},
		{"crashes soon after it served", true, crashed, 100 * time.Millisecond, 50 * time.Millisecond, 15},
		{"crashes now and then", true, crashed, 10 * time.Millisecond, 3 * time.Second, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := patience{atStake: c.atStake}
				for n := 1; n <= 1000; n++ {
					time.Sleep(c.every)
					var served time.Time
					if c.serves > 0 {
						served = time.Now()
						time.Sleep(c.serves)
					}
					if p.note(served, c.end); !p.over() {
						continue
					}
					if n != c.after {
						t.Errorf("given up after %d, not %d", n, c.after)
					}
					return
				}
				if c.after != 0 {
					t.Error("never given up")
				}
			})
		})
	}
}

// The pauses alone do not make five failures last, and never last long.
func TestPatiencePauses(t *testing.T) {
	var p patience
	var all time.Duration
	for range startLimit {
		p.note(time.Time{}, errors.New("x"))
		all += p.pause()
	}
	if first := (&patience{failed: 1}).pause(); first != 0 || all > faultPatience || p.pause() > time.Second/4 {
		t.Errorf("the first pause is %v, five take %v, then each %v", first, all, p.pause())
	}
}

func TestEndOf(t *testing.T) {
	const exited2 = 2 << 8
	for _, c := range []struct {
		ws      unix.WaitStatus
		ours    bool
		outside bool
	}{
		{unix.WaitStatus(unix.SIGKILL), false, true},
		{unix.WaitStatus(unix.SIGTERM), false, true},
		{unix.WaitStatus(unix.SIGKILL), true, false},
		{unix.WaitStatus(unix.SIGSEGV), false, false},
		{unix.WaitStatus(unix.SIGSYS), false, false},
		{exited2, false, false},
	} {
		err := endOf(c.ws, c.ours)
		var k killed
		if err == nil || errors.As(fmt.Errorf("x: %w", err), &k) != c.outside {
			t.Errorf("status %#x, ours %v: %v counts as killed from outside: %v", c.ws, c.ours, err, !c.outside)
		}
	}
	if err := endOf(0, false); err != nil {
		t.Errorf("an orderly end is %v", err)
	}
}
