package lifecycle

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

func TestMountLockExcludes(t *testing.T) {
	m := privateDir(t) + "/m"
	var inside, most atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				l, err := lockMountpoint(m)
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), inside.Add(1)))
				inside.Add(-1)
				l.unlock()
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

func TestMountLockRefusesWhatIsNotOurs(t *testing.T) {
	dir := privateDir(t)
	symlink(t, dir+"/elsewhere", dir+"/link.lock")
	_, err := lockMountpoint(dir + "/link")
	wantFault(t, err, Mountpoint, "link.lock", "symbolic links")
	mkdir(t, 0o700, dir, "dir.lock")
	_, err = lockMountpoint(dir + "/dir")
	wantFault(t, err, Mountpoint, "dir.lock")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to make a file of another user")
	}
	if err := errors.Join(os.WriteFile(dir+"/theirs.lock", nil, 0o666), os.Chown(dir+"/theirs.lock", 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	_, err = lockMountpoint(dir + "/theirs")
	wantFault(t, err, Mountpoint, "not a file of yours")
}
