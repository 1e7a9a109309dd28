package mount

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/fault/faulttest"
)

func TestMountLockExcludes(t *testing.T) {
	m := privateDir(t) + "/m"
	var inside, most atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				l, err := LockPlace(m)
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), inside.Add(1)))
				inside.Add(-1)
				l.Unlock()
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d had the lock at once", most.Load())
	}
	if _, err := os.Lstat(m + ".lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestQueue is about who waits for the lock: as long as it is handed on, but
// not for one that keeps it, nor for ever.
func TestQueue(t *testing.T) {
	m := privateDir(t) + "/m"
	start := time.Now()
	q := queue{since: start, turn: start}
	hold := func() *unix.Stat_t { // and see what somebody who waits sees
		l, err := LockPlace(m)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Unlock()
		other := &Lock{parent: l.parent, name: l.name}
		held, err := other.try(m + ".lock")
		if err != nil || held == nil {
			t.Fatalf("locked twice: %v", err)
		}
		return held
	}
	another := func() *unix.Stat_t {
		for {
			if held := hold(); held.Ino != q.held.Ino || held.Ctim != q.held.Ctim { // else both were within a tick of the clock
				return held
			}
		}
	}
	first, now := another(), start
	wait := func(held *unix.Stat_t, d time.Duration, want string) {
		t.Helper()
		now = now.Add(d)
		err := q.wait(held, now)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("after %v: %v", now.Sub(start), err)
		}
	}
	wait(first, holderTimeout-1, "")
	for now.Sub(start) < queueTimeout-holderTimeout {
		second := another()
		wait(second, 0, "")
		wait(second, holderTimeout-1, "")
	}
	wait(&q.held, 1, "another process has been mounting")
	wait(another(), holderTimeout, "one after the other")
}

func TestMountLockRefusesWhatIsNotOurs(t *testing.T) {
	dir := privateDir(t)
	symlink(t, dir+"/elsewhere", dir+"/link.lock")
	_, err := LockPlace(dir + "/link")
	faulttest.Want(t, err, fault.Mountpoint, "link.lock", "symbolic links")
	mkdir(t, 0o700, dir, "dir.lock")
	_, err = LockPlace(dir + "/dir")
	faulttest.Want(t, err, fault.Mountpoint, "dir.lock")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to make a file of another user")
	}
	if err := errors.Join(os.WriteFile(dir+"/theirs.lock", nil, 0o666), os.Chown(dir+"/theirs.lock", 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	_, err = LockPlace(dir + "/theirs")
	faulttest.Want(t, err, fault.Mountpoint, "not a file of yours")
}
