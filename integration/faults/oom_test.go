package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/installed"
)

// memoryGroup makes a memory cgroup with a limit.
func memoryGroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	for _, g := range []struct{ top, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir = filepath.Join(g.top, fmt.Sprintf("tokenfs-test-%d", os.Getpid()))
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
		if err := os.WriteFile(filepath.Join(dir, g.file), []byte(strconv.Itoa(limit)), 0); err == nil {
			return dir
		}
	}
	t.Skip("NOT RUN: this machine lets nobody make a memory cgroup, so the OOM killer cannot be had without harm")
	return ""
}

func memoryOf(pid int) (pages string, kB int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "VmPTE") {
			pages += fmt.Sprintf("%s%s ", f[0], f[1])
			if f[0] == "VmRSS:" {
				kB, _ = strconv.Atoi(f[1])
			}
		}
	}
	score, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score", pid))
	return pages + "score " + strings.TrimSpace(string(score)), kB
}

// Where memory runs out the worker goes and comes back. If there is no end to
// it, the keeper ends everything in good order, rather than be killed itself.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	s := u.Status()
	keeper, inKeeper := memoryOf(s.Mount.PID)
	worker, inWorker := memoryOf(s.Worker.PID)
	t.Logf("keeper: %s", keeper)
	t.Logf("worker: %s", worker)
	if inWorker <= inKeeper {
		t.Errorf("the worker has %d kB and the keeper %d: the OOM killer would rather take the keeper", inWorker, inKeeper)
	}
	group := memoryGroup(t, 48<<20)
	for _, pid := range []int{s.Mount.PID, s.Worker.PID} {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	alive := true
	within(t, 60*time.Second, "running out of memory", func() {
		for i := range 15 { // 60 MB, with a limit of 48 MB
			if _, code := u.End(u.Program("sh", "-c", fmt.Sprintf("head -c 4000000 /dev/zero > %s%d", u.Path("f"), i))); code != 0 {
				alive = false
				break
			}
		}
	})
	events, _ := os.ReadFile(filepath.Join(group, "memory.oom_control"))
	more, _ := os.ReadFile(filepath.Join(group, "memory.events"))
	t.Logf("the kernel says: %q; alive: %v", string(events)+string(more), alive)
	if !strings.Contains(string(events)+string(more), "oom_kill ") || strings.Contains(string(events)+string(more)+"\n", "oom_kill 0\n") {
		t.Error("the OOM killer took nobody: nothing was tested")
	}
	// A killed keeper leaves a dead mount; one that ends by itself leaves nothing.
	if alive {
		u.Must("unmount")
	}
	u.NothingLeft()
}
