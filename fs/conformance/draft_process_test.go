package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newCache is a mount with a cache in it, and what that holds.
func newCache(t *testing.T) (path string, old []byte, m *mounted) {
	m = mount(t, mountOptions{})
	path = filepath.Join(m.Dir, "cache")
	old = edition(1)
	must(t, os.WriteFile(path, old, 0o600))
	return path, old, m
}

// others checks what other processes find: one that was there before the saver has
// opened anything, for a child of it would close what it has inherited.
func (o *bystander) finds(t *testing.T, path string, want []byte, when string) {
	t.Helper()
	if got := o.read(t, path); !bytes.Equal(got, want) {
		t.Fatalf("%s, others find %d bytes, want %d", when, len(got), len(want))
	}
}

// bystander is a process that reads what it is told to.
type bystander struct {
	ask    *json.Encoder
	answer *json.Decoder
}

func newBystander(t *testing.T) *bystander {
	t.Helper()
	cmd := roleCommand(t, "bystander", nil)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return &bystander{json.NewEncoder(in), json.NewDecoder(out)}
}

func (o *bystander) read(t *testing.T, path string) (b []byte) {
	t.Helper()
	must(t, o.ask.Encode(path))
	must(t, o.answer.Decode(&b))
	return b
}

func init() {
	roles["bystander"] = func([]byte) error {
		in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
		for {
			var path string
			if err := in.Decode(&path); err != nil {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := out.Encode(b); err != nil {
				return err
			}
		}
	}
}

// ender saves without closing, and ends as it is told.
type ender struct {
	Path    string
	Threads int
	Status  int // of exit_group
	Stop    bool
}

func init() {
	roles["ender"] = func(args []byte) error {
		var e ender
		if err := json.Unmarshal(args, &e); err != nil {
			return err
		}
		for range e.Threads {
			go func() { runtime.LockOSThread(); select {} }()
		}
		fd, err := unix.Open(e.Path, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		b := edition(2)
		if e.Stop {
			unix.Write(fd, b[:len(b)/2])
			unix.Kill(os.Getpid(), unix.SIGSTOP)
			b = b[len(b)/2:]
		}
		if n, err := unix.Write(fd, b); n != len(b) {
			return fmt.Errorf("%d bytes written: %v", n, err)
		}
		os.Exit(e.Status)
		return nil
	}
}

// A program that ends by itself has saved what it has written, closed or not, and
// whichever of its threads is the last one.
func TestEndWithoutClose(t *testing.T) {
	path, old, _ := newCache(t)
	others := newBystander(t)
	for _, e := range []ender{{path, 0, 0, false}, {path, 0, 3, false}, {path, 20, 0, false}, {path, 20, 3, false}} {
		for range 10 {
			must(t, os.WriteFile(path, old, 0o600))
			cmd := roleCommand(t, "ender", e)
			cmd.Stderr = os.Stderr
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != e.Status {
				t.Fatal(err)
			}
			others.finds(t, path, edition(2), fmt.Sprintf("after an end of %+v", e))
		}
	}
}

// A saver that is stopped in the middle shows nothing of what it has written, then
// all of it, as a reader of a log wants. Its save counts when it goes on.
func TestSaverIsStopped(t *testing.T) {
	path, old, m := newCache(t)
	others := newBystander(t)
	start := time.Now()
	cmd := roleCommand(t, "ender", ender{Path: path, Stop: true})
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	poll(t, 30*time.Second, "the saver to stop", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		return len(f) > 0 && f[0][0] == 'T'
	})
	if open := m.status(t).Content.Drafts.Open; len(open) != 1 || open[0].Path != "cache" || open[0].Size != int64(len(old)) {
		t.Errorf("status tells of %+v", open)
	}
	got := others.read(t, path)
	if early := time.Since(start) < 2*time.Second; early && !bytes.Equal(got, old) {
		t.Errorf("others find %d bytes, want %d", len(got), len(old))
	} else if !early {
		t.Log("NOT SEEN: what others find at first: the machine is too slow")
	}
	half := edition(2)
	half = half[:len(half)/2]
	poll(t, 30*time.Second, "what was written to be seen", func() bool { return bytes.Equal(others.read(t, path), half) })
	must(t, cmd.Process.Signal(unix.SIGCONT))
	must(t, cmd.Wait())
	others.finds(t, path, edition(2), "when it has gone on")
}

// openCut opens the cache in this process as a save begins.
func openCut(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_TRUNC, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// A child closes what it has inherited: before a write that has to do with another
// thread; after one the child may be there to read.
func TestChildOfASaver(t *testing.T) {
	path, old, _ := newCache(t)
	others := newBystander(t)
	f := openCut(t, path)
	must(t, exec.Command("true").Run())
	others.finds(t, path, old, "after a child that was there before the write")
	b := edition(2)
	must(t, second(f.Write(b)))
	must(t, exec.Command("true").Run())
	others.finds(t, path, b, "after one that was there after it")
	must(t, second(f.Write([]byte("more"))))
	others.finds(t, path, append(bytes.Clone(b), "more"...), "from then on")
}

// A redirection closes the descriptor that it was made with: it counts as a close,
// and all that follows is as on tmpfs.
func TestRedirection(t *testing.T) {
	path, old, _ := newCache(t)
	others := newBystander(t)
	must(t, os.WriteFile(path, old, 0o600))
	must(t, exec.Command("sh", "-c", `{ printf a; cat "$1" >&2; printf b; } >"$1"`, "sh", path).Run())
	others.finds(t, path, []byte("ab"), "after a redirection")
	must(t, exec.Command("sh", "-c", `: >"$1"`, "sh", path).Run())
	others.finds(t, path, nil, "after a redirection without output")
}

// A process reads what it has written, whichever handle it takes, and others do not.
func TestSaverReads(t *testing.T) {
	path, old, _ := newCache(t)
	others := newBystander(t)
	b := edition(2)
	f := openCut(t, path)
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, old) {
		t.Errorf("before it has written it finds %d bytes, want %d", len(got), len(old))
	}
	must(t, second(f.Write(b)))
	if got, err = os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
		t.Errorf("it finds %d bytes, want %d (%v)", len(got), len(b), err)
	}
	if n, err := f.Seek(0, io.SeekEnd); err != nil || n != int64(len(b)) {
		t.Errorf("its end is at %d, want %d (%v)", n, len(b), err)
	}
	others.finds(t, path, old, "before it is closed")
	must(t, f.Close())
	others.finds(t, path, b, "once it is closed")
}

// A save across what happens to names.
func TestSaveAcrossNames(t *testing.T) {
	for name, do := range map[string]func(path string) error{
		"rename":           func(path string) error { return os.Rename(path, path+".new") },
		"rename over it":   func(path string) error { return os.Rename(path+".other", path) },
		"unlink":           os.Remove,
		"another name":     func(path string) error { return os.Link(path, path+".new") },
		"chmod":            func(path string) error { return os.Chmod(path, 0o640) },
		"a directory move": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".moved") },
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, mountOptions{})
			dir := filepath.Join(m.Dir, "app")
			must(t, os.Mkdir(dir, 0o700))
			path := filepath.Join(dir, "cache")
			old, b := edition(1), edition(2)
			others := newBystander(t)
			must(t, os.WriteFile(path, old, 0o600))
			must(t, os.WriteFile(path+".other", old, 0o600))
			held, err := os.Open(path)
			must(t, err)
			defer held.Close()
			f := openCut(t, path)
			must(t, second(f.Write(b[:len(b)/2])))
			must(t, do(path))
			must(t, second(f.Write(b[len(b)/2:])))
			at := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), held.Fd())
			others.finds(t, at, old, "before the close")
			must(t, f.Close())
			others.finds(t, at, b, "after the close")
			if name == "rename over it" {
				others.finds(t, path, old, "under the name")
			}
		})
	}
}
