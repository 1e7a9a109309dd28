package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// aligned is a copy of b as O_DIRECT wants it.
func aligned(t *testing.T, b []byte) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, (len(b)+4095)&^4095, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem[:copy(mem, b)]
}

// all wants a transfer to have gone on to the end of n bytes.
func all(n int, move func(left int) (int, error)) error {
	for left := n; left > 0; {
		got, err := move(left)
		if err != nil {
			return err
		}
		if got <= 0 {
			return fmt.Errorf("%d of %d bytes are left", left, n)
		}
		left -= got
	}
	return nil
}

// throughPipe moves what is written to a pipe on, a pipe's worth at a time.
func throughPipe(n int, in, out func(pipe int, left int) (int, error)) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	return all(n, func(left int) (int, error) {
		got, err := in(p[1], min(left, 32<<10))
		if err != nil || got <= 0 {
			return got, err
		}
		return got, all(got, func(left int) (int, error) { return out(p[0], left) })
	})
}

// waysToSave write b to a file that has been cut; from holds the same.
var waysToSave = map[string]func(t *testing.T, fd, from int, b []byte) error{
	"write": func(t *testing.T, fd, from int, b []byte) error {
		return all(len(b), func(left int) (int, error) { return unix.Write(fd, b[len(b)-left:]) })
	},
	"pwritev2": func(t *testing.T, fd, from int, b []byte) error {
		n, err := unix.Pwritev2(fd, [][]byte{b[:5], b[5:]}, 0, 0)
		return errors.Join(err, all(len(b)-max(n, 0), func(left int) (int, error) { return unix.Pwrite(fd, b[len(b)-left:], int64(len(b)-left)) }))
	},
	"O_DIRECT": func(t *testing.T, fd, from int, b []byte) error {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT); err != nil {
			return err
		}
		b = aligned(t, b)
		return all(len(b), func(left int) (int, error) { return unix.Write(fd, b[len(b)-left:]) })
	},
	"splice": func(t *testing.T, fd, from int, b []byte) error {
		return throughPipe(len(b),
			func(pipe, left int) (int, error) {
				n, err := unix.Splice(from, nil, pipe, nil, left, 0)
				return int(n), err
			},
			func(pipe, left int) (int, error) {
				n, err := unix.Splice(pipe, nil, fd, nil, left, 0)
				return int(n), err
			})
	},
	"sendfile": func(t *testing.T, fd, from int, b []byte) error {
		return all(len(b), func(left int) (int, error) { return unix.Sendfile(fd, from, nil, left) })
	},
	"copy_file_range": func(t *testing.T, fd, from int, b []byte) error {
		return all(len(b), func(left int) (int, error) { return unix.CopyFileRange(from, nil, fd, nil, left, 0) })
	},
	"io_uring": func(t *testing.T, fd, from int, b []byte) error { return ringTransfer(t, ringWrite, fd, b) },
}

// waysToLoad read a file of n bytes from its beginning.
var waysToLoad = map[string]func(t *testing.T, fd, n int) ([]byte, error){
	"pread": func(t *testing.T, fd, n int) ([]byte, error) {
		b := make([]byte, n)
		return b, all(n, func(left int) (int, error) { return unix.Pread(fd, b[n-left:], int64(n-left)) })
	},
	"O_DIRECT": func(t *testing.T, fd, n int) ([]byte, error) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT); err != nil {
			return nil, err
		}
		b := aligned(t, make([]byte, n))
		return b, all(n, func(left int) (int, error) { return unix.Pread(fd, b[n-left:], int64(n-left)) })
	},
	"splice": func(t *testing.T, fd, n int) ([]byte, error) {
		b := make([]byte, 0, n)
		return b[:n], throughPipe(n,
			func(pipe, left int) (int, error) {
				n, err := unix.Splice(fd, nil, pipe, nil, left, 0)
				return int(n), err
			},
			func(pipe, left int) (int, error) {
				n, err := unix.Read(pipe, b[len(b):len(b)+left])
				b = b[:len(b)+max(n, 0)]
				return n, err
			})
	},
	"sendfile": func(t *testing.T, fd, n int) ([]byte, error) {
		to, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			return nil, err
		}
		defer to.Close()
		err = all(n, func(left int) (int, error) { return unix.Sendfile(int(to.Fd()), fd, nil, left) })
		b, err2 := os.ReadFile(to.Name())
		return b, errors.Join(err, err2)
	},
	"mmap": func(t *testing.T, fd, n int) ([]byte, error) {
		mem, err := unix.Mmap(fd, 0, n, unix.PROT_READ, unix.MAP_PRIVATE)
		if err != nil {
			return nil, err
		}
		defer unix.Munmap(mem)
		return bytes.Clone(mem), nil
	},
	"io_uring": func(t *testing.T, fd, n int) ([]byte, error) {
		b := make([]byte, n)
		return b, ringTransfer(t, ringRead, fd, b)
	},
}

// However a save is written, others find what there was until it is closed.
func TestWaysToSave(t *testing.T) {
	for name, way := range waysToSave {
		t.Run(name, func(t *testing.T) {
			path, old, m := newCache(t)
			others := newBystander(t)
			b := edition(7)
			source := filepath.Join(m.Dir, "source")
			must(t, os.WriteFile(source, b, 0o600))
			from, err := os.Open(source)
			must(t, err)
			defer from.Close()
			f := openCut(t, path)
			must(t, way(t, int(f.Fd()), int(from.Fd()), b))
			others.finds(t, path, old, "before the close")
			must(t, f.Close())
			others.finds(t, path, b, "after it")
		})
	}
}

// However a file is loaded, a save that is under way is not in it.
func TestWaysToLoad(t *testing.T) {
	for name, way := range waysToLoad {
		t.Run(name, func(t *testing.T) {
			path, old, _ := newCache(t)
			cmd := startStopped(t, path, edition(7))
			load := func(when string, want []byte) {
				t.Helper()
				f, err := os.Open(path)
				must(t, err)
				defer f.Close()
				// As programs do: where no READ is sent for what they ask for, the kernel
				// ends at a size of its own, which this sets right.
				var st unix.Stat_t
				if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != int64(len(want)) {
					t.Errorf("%s fstat tells %d bytes, want %d (%v)", when, st.Size, len(want), err)
				}
				if got, err := way(t, int(f.Fd()), len(want)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s it finds %d bytes that are not the %d that are there (%v)", when, len(got), len(want), err)
				}
			}
			load("while a save is under way", old)
			cmd()
			load("after it", edition(7))
		})
	}
}

// holdSave is a save that waits before it is closed.
type holdSave struct {
	Path string
	Data []byte
}

func init() {
	roles["holdsave"] = func(args []byte) error {
		var h holdSave
		if err := json.Unmarshal(args, &h); err != nil {
			return err
		}
		f, err := os.OpenFile(h.Path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		if _, err := f.Write(h.Data); err != nil {
			return err
		}
		fmt.Print(".")
		io.Copy(io.Discard, os.Stdin)
		return f.Close()
	}
}

// startStopped is a process that has begun a save and waits; the function that it
// returns has it go on, and returns when it has ended.
func startStopped(t *testing.T, path string, b []byte) (finish func()) {
	t.Helper()
	cmd := roleCommand(t, "holdsave", holdSave{path, b})
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("no save has begun: %v", err)
	}
	return func() {
		in.Close()
		must(t, cmd.Wait())
	}
}
