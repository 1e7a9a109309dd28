package lifecycle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/process"
)

// A child is a worker as its keeper sees it.
type child struct {
	process.Handle
	waits   *handover.Giver
	conn    *net.UnixConn
	died    chan struct{} // it is a zombie: its pid is still its own
	ours    atomic.Bool   // we killed it
	ready   chan struct{}
	answers chan toKeeper
	notes   *fs.Notifier
	locked  *lockedDown // set before ready
	serves  bool        // it has said that it is ready
	logged  int         // lines
	logf    func(format string, args ...any)

	ending sync.Mutex
	reaped bool // nothing is to be sent to it any more
}

// connect waits for the process to come for what it is to have.
func (c *child) connect() (*net.UnixConn, error) {
	defer c.waits.Close()
	conn, err := c.waits.Accept(c.Handle)
	if err == nil {
		c.conn = conn
	}
	return conn, err
}

// await notes the end of the process, and ends it if somebody stops it: a
// stopped worker answers nobody.
func (c *child) await() {
	for {
		var info process.Siginfo
		err := process.Waitid(c.Pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT)
		if err == unix.EINTR {
			continue
		}
		if err == nil && info.Code == process.CldStopped {
			c.logf("somebody stopped the worker")
			c.Handle.Kill() // and is not our doing
			for process.Waitid(c.Pid, &info, unix.WEXITED|unix.WNOWAIT) == unix.EINTR {
			}
		}
		close(c.died)
		return
	}
}

func (c *child) kill() {
	c.ending.Lock()
	defer c.ending.Unlock()
	if !c.reaped {
		c.ours.Store(true)
		c.Handle.Kill()
	}
}

// giveUp ends a worker that did not start for that reason, and says how it ended.
// One whose end of a connection is closed is ending already, as a rule: then
// killing it would hide whether somebody else had done so, which decides how long
// to go on (see patience).
func (c *child) giveUp(why error) error {
	if !errors.Is(why, os.ErrDeadlineExceeded) {
		select {
		case <-c.died:
		case <-time.After(answerLimit):
		}
	}
	select {
	case <-c.died:
	default:
		c.kill()
		<-c.died
	}
	if end := c.reap(); end != nil {
		why = fmt.Errorf("%w (%w)", why, end)
	}
	return why
}

// reap says how a dead process ended; nil if it ended by itself.
func (c *child) reap() error {
	if c.conn != nil {
		c.conn.Close()
	}
	c.ending.Lock()
	defer c.ending.Unlock()
	c.reaped = true
	defer c.Handle.Close()
	var ws unix.WaitStatus
	for {
		switch _, err := unix.Wait4(c.Pid, &ws, 0, nil); err {
		case nil:
			return endOf(ws, c.ours.Load())
		case unix.EINTR:
		default:
			return err
		}
	}
}

// registerLine is a line of the registers that Go's runtime prints when a signal ends
// the process: eight bytes each, of keys or contents perhaps.
var registerLine = regexp.MustCompile(`^(r[a-z0-9]+|lr|sp|pc|fault|cs|fs|gs)\s+0x[0-9a-f]+$`)

// relay logs what a worker says that it cannot say otherwise: a runtime error.
func (c *child) relay(said *os.File) {
	defer said.Close()
	lines := bufio.NewScanner(said)
	for n := 0; lines.Scan(); {
		if n < 40 && !registerLine.Match(lines.Bytes()) {
			c.logf("worker: %s", lines.Text())
			n++
		}
	}
	io.Copy(io.Discard, said)
}
