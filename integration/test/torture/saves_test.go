package torture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Clients that save as apps do: they cut their file to nothing and write it again,
// without a lock, while others load it. A save is whole, or it did not happen.

// edition is contents that tell their number, and whether they are whole.
func edition(id int64) []byte {
	const head = 16
	sizes := []int{head, 700, 5000, 40_000, 300_000}
	b := pattern(id, sizes[uint64(id)*0x9e3779b97f4a7c15>>32%5]+int(uint64(id)%300))
	binary.LittleEndian.PutUint64(b, uint64(id))
	binary.LittleEndian.PutUint64(b[8:], uint64(len(b)))
	return b
}

// number says which edition b is, and whether it is the whole of it.
func number(b []byte) (id int64, whole bool) {
	if len(b) < 16 {
		return 0, false
	}
	id = int64(binary.LittleEndian.Uint64(b))
	return id, binary.LittleEndian.Uint64(b[8:]) == uint64(len(b)) && bytes.Equal(b, edition(id))
}

// saveTo saves in one of the ways that apps have.
func (c *client) saveTo(path string, b []byte, pieces int) error {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_CLOEXEC
	late := c.rng.IntN(3) == 0 // as .NET does
	if !late {
		flags |= unix.O_TRUNC
	}
	fd, err := unix.Open(path, flags, 0o600)
	if err != nil {
		return err
	}
	if late {
		err = unix.Ftruncate(fd, 0)
	}
	for step := (len(b) + pieces - 1) / pieces; len(b) > 0 && err == nil; {
		var n int
		n, err = unix.Write(fd, b[:min(step, len(b))])
		b = b[max(n, 0):]
	}
	if err == nil && c.rng.IntN(4) == 0 {
		err = unix.Fsync(fd)
	}
	return errors.Join(err, unix.Close(fd))
}

// loadFrom reads to the end, a few bytes at a time or all at once, or as Node does as
// much as it is told that there is.
func (c *client) loadFrom(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if c.rng.IntN(4) == 0 {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if st.Size() <= 128<<10 {
			all := make([]byte, st.Size())
			n, err := f.ReadAt(all, 0)
			if err == io.EOF { // a shorter version
				err = nil
			}
			return all[:n], err
		}
	}
	buf, all := make([]byte, []int{1 << 20, 50_000, 4096}[c.rng.IntN(3)]), []byte(nil)
	for {
		n, err := f.Read(buf)
		if all = append(all, buf[:n]...); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// saves saves and loads what others save and load.
func (c *client) saves() error {
	path := c.path("cache")
	for ; c.running(); c.pace() {
		var err error
		if c.rng.IntN(3) == 0 {
			id := c.fresh()
			err = c.do("saves", "write", id, 0, func() (int64, error) {
				return 0, c.saveTo(path, edition(id), 1+c.rng.IntN(4))
			})
		} else {
			var torn int
			start := clock()
			err = c.do("saves", "read", 0, 0, func() (int64, error) {
				b, err := c.loadFrom(path)
				id, whole := number(b)
				if err == nil && !whole {
					torn = len(b)
					return notWhole, nil
				}
				return id, err
			})
			if err == nil && torn > 0 {
				err = c.record(Op{"torn", "read", int64(torn), 0, 0, c.number, start, clock()})
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// notWhole is the result of a load that found a half.
const notWhole = -1

// slow is from when on a save may be a log for all that the filesystem knows: it
// shows what is written.
const slow = 2 * time.Second

// judgeSaves takes out the loads that found a half, of which only a save that took too
// long may be the reason, or a load that did, and fails for the others.
func judgeSaves(t *testing.T, ops []Op) []Op {
	t.Helper()
	excused := func(load *Op) bool {
		return load.End-load.Start >= int64(slow) || slices.ContainsFunc(ops, func(save Op) bool {
			return save.Kind == "write" && save.End-save.Start >= int64(slow) && save.Start < load.End && save.End > load.Start-int64(slow)
		})
	}
	return slices.DeleteFunc(ops, func(op Op) bool {
		if op.Kind == "read" && op.Result == notWhole {
			if !excused(&op) {
				t.Errorf("a load found no whole version: %v; around it there were:%s", op, around(ops, &op))
			} else {
				t.Logf("a load found a half, and it took longer than %v, or a save did", slow)
			}
			return true
		}
		return false
	})
}

// kept kills processes in the middle of their saves.
func (c *client) kept() error {
	if err := c.own("kept"); err != nil {
		return err
	}
	path, last := c.path("cache"), int64(0)
	if err := os.WriteFile(path, edition(0), 0o600); err != nil {
		return err
	}
	for ; c.running(); c.pace() {
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(1000+c.number), strconv.FormatInt(last, 10), c.dir, c.stop, "/dev/null")
		cmd.Env = append(os.Environ(), roleVar+"=keeper")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			return err
		}
		time.Sleep(time.Duration(30+c.rng.IntN(60)) * time.Millisecond) // at a random moment
		cmd.Process.Signal([]os.Signal{unix.SIGKILL, unix.SIGTERM}[c.rng.IntN(2)])
		cmd.Wait()
		if msg := out.Bytes(); slices.Contains(msg, ':') {
			return fmt.Errorf("a process that was to be killed: %s", msg)
		}
		told := int64(bytes.Count(out.Bytes(), []byte("\n")))
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		id, whole := number(b)
		if !whole || id < last+told || id > last+told+1 {
			return fmt.Errorf("after a process was killed that had saved up to %d, there are %d bytes of edition %d (whole: %v)", last+told, len(b), id, whole)
		}
		last = id
	}
	return nil
}

// keeps saves one edition after the other and says so, until it is killed. The seed
// is the last one.
func (c *client) keeps() error {
	for id := c.seed + 1; ; id++ {
		if err := c.saveTo(c.path("cache"), edition(id), 3); err != nil {
			return err
		}
		os.Stdout.WriteString("\n")
	}
}
