package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/mounted"
	"tokenfs/lifecycle"
)

// A subject is a mount, as its tormentor sees it.
type subject struct {
	*mounted.Mount
	*orders
	command string
	keeper  int
}

func newSubject(t testing.TB, args ...string) *subject {
	s := &subject{orders: newOrders(t), command: mounted.Build(t, tag)}
	s.Mount = mounted.New(t, s.command, args...)
	s.keeper = s.status(t).Mount.PID
	var st unix.Stat_t
	if err := unix.Stat(s.Dir, &st); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() { // or what hangs would hang for ever
			os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(st.Dev)), []byte("1"), 0)
		}
	})
	return s
}

// child is the keeper's worker, ready or not, 0 if there is none that lives.
func (s *subject) child() int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.keeper))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, pid := range strings.Fields(string(b)) {
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			_, state, _ := strings.Cut(string(stat), ") ")
			if strings.TrimSpace(string(comm)) != "tokenfs-holder" && !strings.HasPrefix(state, "Z") {
				n, _ := strconv.Atoi(pid)
				return n
			}
		}
	}
	return 0
}

// children are all of the keeper's, zombies too.
func (s *subject) children() (list []string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.keeper))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, pid := range strings.Fields(string(b)) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			list = append(list, string(stat[:min(len(stat), 60)]))
		}
	}
	return list
}

// worker waits for one that is not the old one.
func (s *subject) worker(t testing.TB, old int) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		if pid := s.child(); pid != 0 && pid != old {
			return pid
		}
		if time.Now().After(deadline) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.keeper))
			t.Fatalf("there is no new worker after 20 s; the keeper is %.40q (%v), its children are %q", stat, err, s.children())
		}
	}
}

func (s *subject) status(t testing.TB) lifecycle.Status {
	t.Helper()
	var reply struct{ Status *lifecycle.Status }
	if err := json.Unmarshal(s.Control(t, `{"v":1,"verb":"status"}`), &reply); err != nil || reply.Status == nil {
		t.Fatalf("status: %v", err)
	}
	return *reply.Status
}

// ready waits until the keeper says that a worker is, and returns it: after a
// few that died before that the keeper gives up, as it is to.
func (s *subject) ready(t testing.TB) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if pid := s.status(t).Worker.PID; pid != 0 {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatal("the keeper has no worker that is ready, after 20 s")
		}
	}
}

// served waits until requests are.
func (s *subject) served(t testing.TB) unix.Statfs_t {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(s.Dir, &st); err != nil {
		t.Fatalf("statfs: %v", err)
	}
	return st
}

// balanced waits until nothing but the root is in use.
func (s *subject) balanced(t testing.TB) {
	t.Helper()
	s.balancedBut(t, 0)
}

// balancedBut is so but for a few empty inodes.
func (s *subject) balancedBut(t testing.TB, few int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st := s.served(t)
		if st.Files-st.Ffree <= uint64(1+few) && st.Blocks == st.Bfree {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes and %d blocks are in use after everything was removed", st.Files-st.Ffree, st.Blocks-st.Bfree)
		}
	}
}

// unharmed wants no request to have ended in a panic, and nothing damaged.
func (s *subject) unharmed(t testing.TB) {
	t.Helper()
	if st := s.status(t).Content; st.Panics != 0 || st.ReadOnly != "" {
		t.Errorf("%d requests ended in a panic; read-only: %q", st.Panics, st.ReadOnly)
	}
}

// canUpgrade says whether the command can.
func (s *subject) canUpgrade() bool {
	out, _ := exec.Command(s.command, "help").Output()
	return strings.Contains(string(out), "tokenfs upgrade")
}

// A usage is what a process takes; -1: not for us to know.
type usage struct {
	rss     int64 // of private memory
	threads int64
	fds     int64
}

func (u usage) String() string {
	if u.fds < 0 {
		return fmt.Sprintf("%d KiB, %d threads, descriptors NOT COUNTED: they are for root to see", u.rss>>10, u.threads)
	}
	return fmt.Sprintf("%d KiB, %d threads, %d descriptors", u.rss>>10, u.threads, u.fds)
}

func measure(pid int) (u usage) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "RssAnon":
			u.rss = n << 10
		case "Threads":
			u.threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.fds = int64(len(fds))
	if err != nil {
		u.fds = -1
	}
	return u
}

// replaceFile is how an upgrade puts another binary in its place.
func replaceFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", b, 0o755); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
