package faults

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// startLimit is how many workers that fail in a row can be the end of it all.
const startLimit = 5

// manyName is this program as a client that has a great many files.
const manyName = "many"

type manyOrder struct {
	Dir            string
	Files, Handles int
	Keeper         int
	Kills          int
	Burst          time.Duration // of kills, as soon as there is somebody to kill
	Start          string        // a program to start before each kill, to compare with
}

type manyReport struct {
	Pauses  []time.Duration
	Starts  []time.Duration
	Burst   int // kills
	Wrong   string
	Created time.Duration
}

func manyMain() {
	var o manyOrder
	json.Unmarshal([]byte(os.Args[1]), &o)
	r := manyReport{}
	if err := many(o, &r); err != nil {
		r.Wrong = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(r)
	os.Exit(0)
}

func many(o manyOrder, r *manyReport) error {
	start := time.Now()
	at := func(i int) string { return filepath.Join(o.Dir, fmt.Sprintf("d%d/f%d", i%100, i)) }
	text := func(i int) []byte { return fmt.Appendf(nil, "contents of %d", i) }
	for i := range 100 {
		if err := os.Mkdir(filepath.Join(o.Dir, fmt.Sprintf("d%d", i)), 0o700); err != nil {
			return err
		}
	}
	for i := range o.Files {
		if i%10 == 0 { // the others are empty: a page each would be 400 MB
			if err := os.WriteFile(at(i), text(i), 0o600); err != nil {
				return err
			}
			continue
		}
		f, err := os.Create(at(i))
		if err != nil {
			return err
		}
		f.Close()
	}
	open := make([]*os.File, o.Handles)
	for h := range open {
		f, err := os.OpenFile(at(h*10%o.Files), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		open[h] = f
	}
	if o.Handles > 0 {
		if err := os.Remove(at(0)); err != nil { // open, and without a name
			return err
		}
	}
	r.Created = time.Since(start)
	last := 0
	for k := range o.Kills {
		if o.Start != "" {
			start := time.Now()
			if err := exec.Command(o.Start, "version").Run(); err != nil {
				return err
			}
			r.Starts = append(r.Starts, time.Since(start))
		}
		last = killAnother(o.Keeper, last)
		start := time.Now()
		if _, err := os.Lstat(filepath.Join(o.Dir, fmt.Sprintf("nothing%d", k))); !os.IsNotExist(err) {
			return err
		}
		r.Pauses = append(r.Pauses, time.Since(start))
		for h, f := range open {
			if h%7 != k%7 {
				continue
			}
			i := h * 10 % o.Files
			b := make([]byte, 64)
			n, _ := f.ReadAt(b, 0)
			if !bytes.Equal(b[:n], text(i)) {
				return fmt.Errorf("handle %d of file %d holds %q", h, i, b[:n])
			}
		}
	}
	for start := time.Now(); time.Since(start) < o.Burst; time.Sleep(time.Millisecond) { // a pause, nothing to wait for
		for _, pid := range childrenOf(o.Keeper) {
			if unix.Kill(pid, unix.SIGKILL) == nil {
				r.Burst++
			}
		}
	}
	names := 0
	for i := range 100 {
		list, err := os.ReadDir(filepath.Join(o.Dir, fmt.Sprintf("d%d", i)))
		if err != nil {
			return err
		}
		names += len(list)
	}
	want := o.Files
	if o.Handles > 0 {
		want--
	}
	if names != want {
		return fmt.Errorf("%d files are left of %d", names, want)
	}
	for i := 10; i < o.Files; i += 10 {
		if b, err := os.ReadFile(at(i)); err != nil || !bytes.Equal(b, text(i)) {
			return fmt.Errorf("file %d holds %q, %v", i, b, err)
		}
	}
	return nil
}

// killAnother kills the worker, waiting for one that is not the last.
func killAnother(keeper, last int) (pid int) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, pid := range childrenOf(keeper) {
			if pid != last && unix.Kill(pid, unix.SIGKILL) == nil {
				return pid
			}
		}
	}
	return 0
}

func childrenOf(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, f := range bytes.Fields(b) {
			var n int
			fmt.Sscan(string(f), &n)
			pids = append(pids, n)
		}
	}
	return pids
}

// runMany has the client work in u's filesystem.
func runMany(u *installed.User, o manyOrder) (r manyReport) {
	u.Helper()
	o.Dir, o.Keeper = u.Mountpoint(), u.Status().Mount.PID
	program := filepath.Join(u.Top, manyName)
	if err := installed.Copy("/proc/self/exe", program, 0o755); err != nil {
		u.Fatal(err)
	}
	order, err := json.Marshal(o)
	if err != nil {
		u.Fatal(err)
	}
	said, code := u.End(u.Program(program, string(order)))
	if err := json.Unmarshal([]byte(said), &r); err != nil || code != 0 {
		u.Fatalf("the client ended with %d and said %q", code, said)
	}
	if r.Wrong != "" {
		u.Error(r.Wrong)
	}
	return r
}

var manyFiles = flag.Bool("many", false, "kill workers of 100,000 files instead of 5000")

// A worker comes back, and knows everything, however much there is, and
// also when its predecessors were killed faster than they could start.
func TestManyFilesAndHandles(t *testing.T) {
	files, handles, burst := 5000, 1000, 3*time.Second
	if *manyFiles {
		files, handles, burst = 100_000, 20_000, 7*time.Second
	}
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount", "--inodes", "200000", "--size", "128M")
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := int(limit.Max) - 64; most < handles {
		t.Logf("WEAK RUN: the limit on open files is %d here, which leaves %d handles instead of %d", limit.Max, most, handles)
		handles = most
	}
	r := runMany(u, manyOrder{Files: files, Handles: handles, Kills: 10, Burst: burst})
	s := u.Status()
	t.Logf("%d files and %d handles made in %v; pauses after kills: %v; then %d kills in %v; %d restarts; memory %+v, arena %d MiB",
		files, handles, r.Created, r.Pauses, r.Burst, burst, s.Worker.Restarts, s.Memory, s.Content.Arena>>20)
	if s.Worker.Restarts < 10+startLimit || r.Burst < startLimit {
		t.Errorf("%d restarts after 10 kills and %d", s.Worker.Restarts, r.Burst)
	}
	u.Must("unmount")
	u.NothingLeft()
}
