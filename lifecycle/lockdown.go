package lifecycle

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/sandbox"
)

// A worker locks itself down before it looks at anything that a predecessor
// left behind, or that a client sends.

// lockedDown is what a worker says of it.
type lockedDown struct {
	sandbox.State
	Own []Protection `json:"own"`
}

// lockDown takes from this process whatever serving does not need.
func (w *workerProcess) lockDown() (err error) {
	// Nothing can be opened later, nor the machine's time zone be looked up.
	time.Local = time.UTC
	if w.pss, err = os.Open("/proc/self/smaps_rollup"); err != nil {
		w.pss = nil // status says that it is unknown
	}
	said := lockedDown{Own: []Protection{ptrace(), coreDumps(), keeperKilled()}}
	var fds []int
	if !crypt.Unprotected {
		var listener int
		if said.State, listener = sandbox.Enter(sandbox.All); listener >= 0 {
			fds = append(fds, listener)
		}
	}
	defer process.CloseAll(fds)
	line, err := encode(toKeeper{Locked: &said})
	if err == nil {
		w.conn.SetWriteDeadline(time.Now().Add(handover.Timeout))
		_, _, err = w.conn.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
	}
	if err != nil {
		return fmt.Errorf("tell the keeper of the sandbox: %w", err)
	}
	return w.conn.SetDeadline(time.Time{})
}

// keeperKilled is about the keys, should the keeper end like that.
func keeperKilled() Protection {
	const name = "keys_die_with_keeper"
	if outlives != nil {
		return Protection{name, false, fmt.Sprintf("it ends with the keeper, and nobody zeroes the keys: %v", outlives)}
	}
	return Protection{name, true, "it zeroes the keys if the keeper is killed"}
}

// measure is this process's share of memory, -1 if it is not known.
func (w *workerProcess) measure() int64 {
	if w.pss == nil {
		return -1
	}
	if _, err := w.pss.Seek(0, io.SeekStart); err != nil {
		return -1
	}
	return bytesIn(w.pss, "Pss:")
}

// guard is told that the worker has locked itself down. From then on a system
// call that its filter stops is the end of it.
func (c *child) guard(said *lockedDown, listener int) {
	if c.locked != nil {
		process.CloseAll([]int{listener})
		return // it is not asked twice
	}
	c.locked = said
	if crypt.Unprotected {
		return
	}
	if err := sandbox.Limit(c.Pid); err != nil {
		c.logf("%v", err)
	}
	if listener < 0 {
		return
	}
	l, err := sandbox.Listen(listener)
	if err != nil {
		c.logf("%v", err)
		c.kill() // a call that nobody decides on would hang
		return
	}
	go func() { <-c.died; l.Close() }()
	go func() {
		call, err := l.Next()
		if err == nil {
			c.logf("the worker made a system call that it has no need of, %s, and was ended for it: please report it", call)
			c.kill()
		}
	}()
}

// keeperFiles is as many descriptors as a keeper can have use for: its own, and
// those of its clients.
const keeperFiles = 128

// limitKeeper takes from a keeper what does not matter to the programs that it
// starts, fusermount3 and its successor.
func limitKeeper() error {
	if crypt.Unprotected {
		return nil
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	files.Max = min(files.Max, keeperFiles)
	files.Cur = files.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	return nil
}
