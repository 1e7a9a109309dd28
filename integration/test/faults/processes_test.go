package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// processGroup makes a pids cgroup and returns its directory.
func processGroup(t *testing.T) string {
	t.Helper()
	for _, top := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir := filepath.Join(top, fmt.Sprintf("tokenfs-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			for range 1000 { // until its last process is collected
				if err := os.Remove(dir); !errors.Is(err, unix.EBUSY) {
					return
				}
				time.Sleep(time.Millisecond)
			}
			t.Errorf("%s is left behind", dir)
		})
		if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte("max"), 0); err == nil {
			return dir
		}
	}
	t.Skip("NOT RUN: this machine lets nobody make a pids cgroup, so that there are always more processes")
	return ""
}

// Where for a moment no more processes or threads can be had, a worker that is
// killed just then comes back as soon as they can.
func TestNoMoreProcesses(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	u.Shell("echo secret > " + u.Path("x"))
	s := u.Status()
	group := processGroup(t)
	for _, pid := range []int{s.Mount.PID, s.Worker.PID} {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	limit := func(to string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(group, "pids.max"), []byte(to), 0); err != nil {
			t.Fatal(err)
		}
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.Mount.PID))
	if err != nil {
		t.Fatal(err)
	}
	limit(strconv.Itoa(len(threads))) // below what there is: nothing may be added
	unix.Kill(s.Worker.PID, unix.SIGKILL)
	client := inBackground(u, "cat "+u.Path("x"))
	refused := 0
	u.Eventually("the kernel refuses", 5*time.Second, func() bool {
		events, _ := os.ReadFile(filepath.Join(group, "pids.events"))
		fmt.Sscanf(string(events), "max %d", &refused)
		return refused >= 3
	})
	limit("max")
	timed(t, "the client's answer", func() {
		if got := <-client; got != "secret\n" {
			t.Errorf("the client read %q", got)
		}
	})
	after := u.Status()
	if after.Mount.PID != s.Mount.PID {
		t.Errorf("the keeper was %d and is %d", s.Mount.PID, after.Mount.PID)
	}
	t.Logf("refused %d times; %d restarts", refused, after.Worker.Restarts)
	u.Must("unmount")
	u.NothingLeft()
}
