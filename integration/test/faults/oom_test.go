package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
	"tokenfs/lifecycle"
)

var groups atomic.Int32

// memoryGroup makes a memory cgroup with a limit.
func memoryGroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	for _, g := range []struct{ top, file, swap string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.swappiness"},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	} {
		dir = filepath.Join(g.top, fmt.Sprintf("tokenfs-test-%d-%d", os.Getpid(), groups.Add(1)))
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
			// As in the user unit. Without it another test's swap file would do.
			os.WriteFile(filepath.Join(dir, g.swap), []byte("0"), 0)
			return dir
		}
	}
	t.Skip("NOT RUN: this machine lets nobody make a memory cgroup, so the OOM killer cannot be had without harm")
	return ""
}

// setLimit gives a group another one.
func setLimit(t *testing.T, group string, bytes int) {
	t.Helper()
	if os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strconv.Itoa(bytes)), 0) == nil {
		return
	}
	if err := os.WriteFile(filepath.Join(group, "memory.max"), []byte(strconv.Itoa(bytes)), 0); err != nil {
		t.Fatal(err)
	}
}

// confine puts what serves a mount into a memory cgroup.
func confine(t *testing.T, s lifecycle.Status, limit int) (group string) {
	t.Helper()
	group = memoryGroup(t, limit)
	for _, pid := range []int{s.Mount.PID, s.Worker.PID} {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	return group
}

// Where a memory limit stands above, what may be held is what fits beneath it: it
// is full before anybody is killed for it, also while it is upgraded.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	const limit = 64 << 20
	group := memoryGroup(t, limit)
	said := mountIn(u, group)
	if !strings.Contains(said, "has a memory limit of 65536 KiB") {
		t.Errorf("mount says %q, nothing of the limit", said)
	}
	s := u.Status()
	if c, m := s.Content, s.Memory; m.Limit != limit || !strings.HasSuffix(m.LimitOf, "/"+filepath.Base(group)) || m.SizeWanted != lifecycle.DefaultSize ||
		c.Quota >= limit/2 || c.Quota < limit/8 || c.InodeLimit >= m.InodesWanted || c.InodeLimit < 1000 {
		t.Fatalf("quota %d KiB, %d inodes; %+v", c.Quota>>10, c.InodeLimit, m)
	}
	if said := u.Must("status"); !strings.Contains(said, "LOWERED") {
		t.Errorf("status says nothing of the limit:\n%s", said)
	}
	// The worst: as many long names and full files as there may be, then rewrites
	// that grow, which the quota does not end.
	filled := u.Shell(`exec 2>/dev/null; cd ` + u.Mountpoint() + `
		i=0; while [ $i -lt 200 ] && head -c 5000 /dev/zero >small.$i; do i=$((i+1)); done; echo small $i
		head -c 200M /dev/zero >big; wc -c <big
		long=$(head -c 240 /dev/zero | tr '\0' x)
		i=0; while [ $i -lt 30000 ] && true >$long.$i; do i=$((i+1)); done; echo names $i
		i=0; while [ $i -lt 200 ] && head -c 250000 /dev/zero >small.$i; do i=$((i+1)); done; echo rewritten $i`)
	t.Logf("%s", filled)
	full := u.Status()
	t.Logf("%d inodes, %d of %d KiB, %d KiB of memory", full.Content.Inodes, full.Content.Bytes>>10, full.Content.Quota>>10, full.Memory.PSS>>10)
	if full.Content.Inodes < full.Content.InodeLimit || full.Content.Bytes < full.Content.Quota*5/4 {
		t.Error("it is not full: nothing was tested")
	}
	u.Must("upgrade")
	if s := u.Status(); s.Memory.Limit != limit || s.Content.Quota != full.Content.Quota || s.Content.Bytes != full.Content.Bytes {
		t.Errorf("after an upgrade: %+v, %+v; before %+v", s.Content, s.Memory, full.Content)
	}
	// Names that change leave garbage, and so does a wipe.
	u.Shell(`cd ` + u.Mountpoint() + ` && perl -e 'opendir D, "."; @n = grep {length > 200} readdir D or die;
		for (1..4) { for (@n) { rename $_, "z$_" or die; rename "z$_", $_ or die } }'`)
	u.Must("wipe")
	u.Shell(`cd ` + u.Mountpoint() + ` && long=$(head -c 240 /dev/zero | tr '\0' x)
		i=0; while [ $i -lt 30000 ] && true 2>/dev/null >$long.$i; do i=$((i+1)); done`)
	if s := u.Status(); s.Mount.PID != full.Mount.PID || s.Worker.Restarts != full.Worker.Restarts+1 {
		t.Errorf("the keeper was %d and is %d, %d restarts: somebody was killed", full.Mount.PID, s.Mount.PID, s.Worker.Restarts)
	}
	if n := killedIn(group); n != 0 {
		t.Errorf("the OOM killer took %d", n)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// Beneath a limit that leaves no room for it an upgrade is refused, rather than
// cost the keeper its life.
func TestUpgradeBeneathMemoryLimit(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	group := memoryGroup(t, 12<<20)
	mountIn(u, group)
	u.Shell("echo token >" + u.Path("cache"))
	if said, code := u.Run("upgrade"); code == 0 || !strings.Contains(said, "do not fit side by side") {
		t.Errorf("upgrade: status %d: %s", code, said)
	}
	if got := u.Shell("cat " + u.Path("cache")); got != "token\n" {
		t.Errorf("afterwards the file has %q", got)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// mountIn mounts from a process that is in the group from its start.
func mountIn(u *installed.User, group string) (said string) {
	u.Helper()
	cmd := u.Program("sh", "-c", "read -r _ && exec "+u.Command+" mount")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		u.Fatal(err)
	}
	err = os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0)
	if err == nil {
		_, err = in.Write([]byte("\n"))
	}
	in.Close()
	if err = errors.Join(err, cmd.Wait()); err != nil {
		u.Fatalf("mount: %v: %s", err, &out)
	}
	return out.String()
}

// killedIn counts whom the OOM killer took from a group.
func killedIn(group string) (n int) {
	events, _ := os.ReadFile(filepath.Join(group, "memory.oom_control"))
	more, _ := os.ReadFile(filepath.Join(group, "memory.events"))
	for line := range strings.Lines(string(events) + "\n" + string(more)) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(count))
		}
	}
	return n
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

// Where memory runs out for a moment the worker goes, and nothing is lost.
func TestOutOfMemoryForAMoment(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	s := u.Status()
	group := confine(t, s, 24<<20)
	u.Shell("echo token >" + u.Path("cache"))
	writer := u.Program("sh", "-c", "exec head -c 40M /dev/zero >"+u.Path("big"))
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	u.Eventually("somebody is killed", 60*time.Second, func() bool { return killedIn(group) > 0 })
	setLimit(t, group, 256<<20)
	err := writer.Wait()
	t.Logf("the OOM killer took %d", killedIn(group))
	if err != nil {
		t.Error(err)
	}
	if got := u.Shell("cat " + u.Path("cache") + "; wc -c <" + u.Path("big")); got != "token\n41943040\n" {
		t.Errorf("afterwards it has %q", got)
	}
	if now := u.Status(); now.Mount.PID != s.Mount.PID || now.Worker.PID == s.Worker.PID {
		t.Errorf("keeper %d, worker %d; before %d, %d", now.Mount.PID, now.Worker.PID, s.Mount.PID, s.Worker.PID)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// If there is no end to it, the keeper ends everything in good order, rather than
// be killed itself.
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
	group := confine(t, s, 48<<20)
	alive := true
	timed(t, "running out of memory", func() {
		for i := range 15 { // 60 MB, with a limit of 48 MB
			if _, code := u.End(u.Program("sh", "-c", fmt.Sprintf("head -c 4000000 /dev/zero > %s%d", u.Path("f"), i))); code != 0 {
				alive = false
				break
			}
		}
	})
	n := killedIn(group)
	t.Logf("the OOM killer took %d; alive: %v", n, alive)
	if n == 0 {
		t.Error("the OOM killer took nobody: nothing was tested")
	}
	// A killed keeper leaves a dead mount; one that ends by itself leaves nothing.
	if alive {
		u.Must("unmount")
	}
	u.Eventually("the keeper ends", 10*time.Second, func() bool { return installed.Ended(s.Mount.PID) })
	u.NothingLeft()
}
