package hygiene

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/scan"
)

// What the kernel keeps of a thread's registers while it waits is in no memory
// of the process, and outlives keys and process. At rest it has neither keys nor
// contents, be it after loads, saves, attributes, links, or a wipe.
func TestRegisters(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skipf("NOT MEASURED: registers are not overwritten on %s", runtime.GOARCH)
	}
	s := newSubject(t, "off", "tokenfs_reveal")
	seen := inRegisters(t, s)
	if len(seen) > 0 {
		t.Errorf("registers of threads at rest hold %v", seen)
	}
}

// The same search finds them where nothing is done against it.
func TestRegistersUnprotected(t *testing.T) {
	s := newSubject(t, "off", "tokenfs_reveal", "tokenfs_unprotected")
	if seen := inRegisters(t, s); len(seen) == 0 {
		t.Error("no key and no contents are in registers: the search is broken")
	}
}

// inRegisters does what clients do, one thing after the other, and tells after
// which of them keys or contents were in registers of keeper or worker.
func inRegisters(t *testing.T, s *subject) map[string]int {
	t.Helper()
	seen := map[string]int{}
	looks := 0
	defer func() { t.Logf("%d looks at waiting threads", looks) }()
	look := func(after string, keys *scan.Set) {
		t.Helper()
		for process, pid := range s.pids {
			for _, thread := range s.atRest(t, pid) {
				if pid == s.server() && thread.WaitedIn(unix.SYS_READ) {
					looks++
					// Such components say nothing: the kernel leaves what it saved the time
					// before, which may be contents, and does not show it.
					if left := thread.Initial(); len(left) > 0 {
						seen[fmt.Sprintf("after %s, what was saved before of %v", after, left)]++
					}
				}
				thread.Search(func(f scan.Found) {
					seen[fmt.Sprintf("after %s, %s: process %d of %d, %d bytes", after, f.Label, process+1, len(s.pids), f.Len)]++
				}, s.content, keys)
			}
		}
	}
	file := filepath.Join(s.Dir, "kept", "a file")
	var ps []planted
	for _, p := range plan(s.seed) {
		if n := len(p.content); p.xattr == "" && p.offset == 0 && n >= scan.Run && (n%16 < 2 || n > 200) {
			ps = append(ps, p)
		}
	}
	_, keys := s.reveal(t)
	const rounds = 5 // what the last request leaves is one thread's, and another one's each time
	for range rounds {
		for _, step := range []struct {
			what string
			does func(p planted) error
		}{
			{"saves", func(p planted) error { return os.WriteFile(file, p.content, 0o600) }},
			{"loads", func(planted) error { _, err := os.ReadFile(file); return err }},
			{"parts", func(p planted) error {
				f, err := os.OpenFile(file, os.O_RDWR, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.WriteAt(p.content[:min(200, len(p.content))], 33)
				return err
			}},
			{"attributes", func(p planted) error {
				v := p.content[:min(1000, len(p.content))]
				if err := unix.Setxattr(file, "user.token", v, 0); err != nil {
					return err
				}
				_, err := unix.Getxattr(file, "user.token", make([]byte, 8192))
				return err
			}},
			{"links", func(p planted) error {
				link := file + " of its own"
				if err := os.Symlink(string(p.content[:min(1000, len(p.content))]), link); err != nil {
					return err
				}
				_, err := os.Readlink(link)
				return errors.Join(err, os.Remove(link))
			}},
		} {
			for _, p := range ps {
				if err := step.does(p); err != nil {
					t.Fatalf("%s: %v", step.what, err)
				}
			}
			// Asking for the keys uses them, on a thread that is then at rest, too.
			_, keys = s.reveal(t)
			look(step.what, keys)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		look("a deletion", keys)
		_, keys = s.reveal(t)
		s.Run(t, "wipe")
		s.pids = s.PIDs(t) // the worker is another one
		look("a wipe", keys)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return seen
}

// atRest is the threads of a process while it has nothing to do: if it serves,
// all that can wait for requests.
func (s *subject) atRest(t *testing.T, pid int) []scan.Thread {
	t.Helper()
	const serving = 4
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		threads, err := scan.Threads(pid)
		if err != nil {
			t.Fatal(err)
		}
		waiting := 0
		for _, thread := range threads {
			if thread.WaitedIn(unix.SYS_READ) {
				waiting++
			}
		}
		if pid != s.server() || waiting == serving {
			return threads
		}
	}
	t.Fatal("the worker does not come to rest")
	return nil
}
