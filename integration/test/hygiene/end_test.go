package hygiene

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
	"tokenfs/integration/test/mounted"
	"tokenfs/integration/test/scan"
)

// The kernel takes memory back as it is, and clears it only before it gives it to
// somebody. So whichever way a filesystem ends, its keys, what they sealed and
// what clients sent must be zero by then. The test holds on to all three.

// ends are ways to end everything.
var ends = []struct {
	name string
	do   func(t *testing.T, s *subject)
}{
	{"wipe", func(t *testing.T, s *subject) { s.Run(t, "wipe") }},
	{"unmount", func(t *testing.T, s *subject) { s.Run(t, "unmount") }},
	{"somebody else's unmount", func(t *testing.T, s *subject) {
		if err := unix.Unmount(s.Dir, 0); err != nil {
			t.Fatal(err)
		}
	}},
	{"unmount while a file is open", func(t *testing.T, s *subject) {
		f, err := os.Open(s.kept[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		s.Run(t, "unmount")
	}},
	{"unmount after a worker was killed", func(t *testing.T, s *subject) {
		unix.Kill(s.server(), unix.SIGKILL)
		if _, err := os.ReadFile(s.kept[0]); err != nil {
			t.Fatal(err)
		}
		s.pids = s.PIDs(t)
		s.Run(t, "unmount")
	}},
	{"killed keeper", func(t *testing.T, s *subject) { unix.Kill(s.pids[0], unix.SIGKILL) }},
	{"killed keeper while clients write", func(t *testing.T, s *subject) {
		l := startLoad(t, s.Dir, s.seed, 3, true)
		l.advance(300)
		unix.Kill(s.pids[0], unix.SIGKILL)
	}},
	{"killed keeper, the worker being stopped", func(t *testing.T, s *subject) {
		s.stop(t)
		unix.Kill(s.pids[0], unix.SIGKILL)
	}},
	{"killed keeper after an upgrade", func(t *testing.T, s *subject) {
		s.Run(t, "upgrade")
		s.pids = s.PIDs(t)
		unix.Kill(s.pids[0], unix.SIGKILL)
	}},
}

func TestEnds(t *testing.T) {
	command := mounted.Build(t)
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			newSubjectOf(t, command, "off").wantNothing(t, end.name, end.do)
		})
	}
}

// A keeper that is killed while its worker hangs in the middle of a request.
func TestEndOfAHungWorker(t *testing.T) {
	o := giveOrders(t)
	s := newSubject(t, "off", "tokenfs_torture")
	s.wantNothing(t, "killed keeper", func(t *testing.T, s *subject) {
		o.spinAt("served") // with the lock held
		go os.ReadFile(s.kept[0])
		o.await(t)
		unix.Kill(s.pids[0], unix.SIGKILL)
	})
}

// An upgrade to a program that plays well in the rehearsal and dies in the
// keeper's place: only the holder has the memory then.
func TestEndInAnUpgrade(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT MEASURED: only root may look at the daemon's memory")
	}
	dir := mounted.RootsDirectory(t)
	command := filepath.Join(dir, "tokenfs")
	real := shortLivedOf(command)
	if err := installed.Copy(mounted.Build(t), command, installed.Packaged); err != nil {
		t.Fatal(err)
	}
	s := newSubjectOf(t, command, "off")
	s.wantNothing(t, "upgrade", func(t *testing.T, s *subject) {
		test, err := os.ReadFile("/proc/self/exe")
		if err == nil {
			err = os.Rename(command, real)
		}
		if err == nil {
			err = os.WriteFile(command, test, installed.Packaged)
		}
		if err != nil {
			t.Fatal(err)
		}
		if reply := s.Control(t, `{"v":1,"verb":"upgrade"}`); bytes.Contains(reply, []byte("error")) {
			t.Fatalf("upgrade: %s", reply)
		}
	})
}

func (s *subject) wantNothing(t *testing.T, name string, end func(*testing.T, *subject)) {
	t.Helper()
	for what, n := range s.left(t, name, end) {
		if n > 0 {
			t.Errorf("%d bytes of the %s are not zero", n, what)
		}
	}
}

// The same looks find something where nothing is done against it.
func TestEndsUnprotected(t *testing.T) {
	command := mounted.Build(t, "tokenfs_unprotected")
	for _, end := range ends {
		if end.name != "unmount" && end.name != "killed keeper" {
			continue
		}
		t.Run(end.name, func(t *testing.T) {
			left := newSubjectOf(t, command, "off").left(t, end.name, end.do)
			if left["arena"] == 0 || end.name == "killed keeper" && left["key region"] == 0 {
				t.Errorf("too little is left where nothing is zeroed: %v", left)
			}
		})
	}
}

// watchWord is the offset in the slots of a word that a keeper sets to 1 when it has
// nothing to watch, and that may be after the end (fs/watch.go).
const watchWord = 16

// left tells how many bytes of each memory are not zero after an end.
func (s *subject) left(t *testing.T, name string, end func(*testing.T, *subject)) map[string]int {
	t.Helper()
	files := map[string]*os.File{}
	memfds, err := scan.Memfds(s.server())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range memfds {
		for _, what := range []string{"key", "arena", "slot"} {
			if !strings.HasPrefix(m.Name, "/memfd:tokenfs-"+what) {
				continue
			}
			if files[what], err = os.Open(m.Path); err != nil {
				t.Fatal(err)
			}
			defer files[what].Close()
		}
	}
	if len(files) != 3 {
		t.Fatalf("the worker has only %d of three memories", len(files))
	}
	pages := keepPages(t, files["arena"])
	end(t, s)
	if name == "wipe" { // the others are in use again
		return map[string]int{"arena": notZero(pages())}
	}
	s.gone(t, files["arena"])
	left := map[string]int{"arena": notZero(pages())}
	const words = 64 // of state, at the beginning of the key region
	left["key region"] = notZero(contents(t, files["key"], words))
	slots := contents(t, files["slot"], 0)
	if len(slots) >= watchWord+4 {
		clear(slots[watchWord : watchWord+4])
	}
	left["slots"] = notZero(slots)
	left["arena"] += notZero(contents(t, files["arena"], 0))
	return left
}

// gone returns when no process but this one has the memory any more.
func (s *subject) gone(t *testing.T, memory *os.File) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(memory.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	has := func() (pid int) {
		procs, _ := filepath.Glob("/proc/[0-9]*")
		for _, proc := range procs {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			memfds, _ := scan.Memfds(pid) // it may have ended
			for _, m := range memfds {
				if m.Inode == st.Ino && pid != os.Getpid() {
					return pid
				}
			}
		}
		return 0
	}
	for deadline := time.Now().Add(time.Minute); has() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d still has the memory", has())
		}
	}
	// A keeper that was killed leaves the mount.
	if unix.Unmount(s.Dir, unix.MNT_DETACH) == nil {
		os.Remove(s.Dir + ".sock")
	}
}

// contents is what is in a memory file from an offset on, but for its holes.
func contents(t *testing.T, f *os.File, from int64) (all []byte) {
	t.Helper()
	err := eachData(f, func(at, to int64) error {
		from := max(at, from)
		b := make([]byte, max(0, to-from))
		_, err := f.ReadAt(b, from)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", f.Name(), err)
	}
	return all
}

func eachData(f *os.File, do func(from, to int64) error) error {
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := do(from, at); err != nil {
			return err
		}
	}
}

// keepPages has a pipe hold pages of a memory file, also when that gives them up,
// and tells in the end what is in them.
func keepPages(t *testing.T, f *os.File) func() []byte {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	size, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	err = eachData(f, func(from, to int64) error {
		for ; from < to && kept < size; from += 4096 {
			iov := unix.Iovec{Base: &mem[from]}
			iov.SetLen(4096)
			n, err := unix.Vmsplice(p[1], []unix.Iovec{iov}, 0)
			if err == unix.EAGAIN {
				size = kept
			} else if err != nil {
				return err
			}
			kept += max(n, 0)
		}
		return nil
	})
	if err != nil || kept < 64<<10 {
		t.Fatalf("%d bytes of pages kept: %v", kept, err)
	}
	return func() []byte {
		b := make([]byte, kept)
		for n := 0; n < kept; {
			m, err := unix.Read(p[0], b[n:])
			if err != nil {
				t.Fatalf("what the kept pages hold: %v", err)
			}
			n += m
		}
		return b
	}
}

func notZero(b []byte) int { return len(b) - bytes.Count(b, []byte{0}) }

// What links lead to is sealed, and in no process's memory while nobody asks. Their
// names are there.
func TestTargetsAreSealed(t *testing.T) {
	s := newSubject(t, "off")
	var names, targets scan.Set
	for i := range 100 {
		name, target := rand.Text(), ""
		for range 1 + i%30 { // up to 780 bytes
			target += rand.Text()
		}
		if err := errors.Join(names.Add("a name", []byte(name)), targets.Add("a target", []byte(target))); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(s.Dir, name)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(link); got != target || err != nil {
			t.Fatalf("a link leads to %q, not to %q: %v", got, target, err)
		}
	}
	found := map[string]int{}
	for _, pid := range s.PIDs(t) {
		rep, err := scan.Process(pid, &names, &targets)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range rep.Hits {
			found[h.Label]++
		}
	}
	if found["a name"] == 0 {
		t.Error("the search does not find names, which are there")
	}
	if n := found["a target"]; n > 0 {
		t.Errorf("targets are in the processes' memory in %d places", n)
	}
}

// Names are on a worker's heap. A wipe leaves none of them in any process, and no
// request fails for it.
func TestWipeForgetsNames(t *testing.T) {
	s := newSubject(t, "off")
	var names scan.Set
	var first string
	for i := range 200 {
		name := fmt.Sprintf("%x", rand.Text())
		if i == 0 {
			first = name
		}
		if err := names.Add(fmt.Sprint("name ", i), []byte(name)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(s.Dir, fmt.Sprint("link", i))); err != nil {
			t.Fatal(err)
		}
	}
	// What the keeper passes on has names in it, too.
	s.Run(t, "status", "--json")
	s.Run(t, "wipe", filepath.Join(s.Dir, first))
	found := func() (n int) {
		for _, pid := range s.PIDs(t) {
			rep, err := scan.Process(pid, &names)
			if err != nil {
				t.Fatal(err)
			}
			n += len(rep.Hits)
		}
		return n
	}
	if found() == 0 {
		t.Fatal("the search does not find names that are there")
	}
	end, failed := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-end:
				failed <- nil
				return
			default:
			}
			if _, err := os.Stat(s.Dir); err != nil {
				failed <- err
				<-end
				return
			}
		}
	}()
	s.Run(t, "wipe")
	close(end)
	if err := <-failed; err != nil {
		t.Errorf("a request failed: %v", err)
	}
	if n := found(); n > 0 {
		t.Errorf("after the wipe %d names are in the processes' memory", n)
	}
}
