package torture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Clients that verify files of their own: whatever they wrote is there, and
// nothing else.

// own makes a directory for a client and works there.
func (c *client) own(kind string) error {
	c.dir = c.path(fmt.Sprint(kind, c.number))
	return os.Mkdir(c.dir, 0o700)
}

func (c *client) check(name string, want []byte) error {
	got, err := os.ReadFile(c.path(name))
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s holds %d bytes that are not the %d written", name, len(got), len(want))
	}
	return err
}

func (c *client) posix() error {
	if err := c.own("posix"); err != nil {
		return err
	}
	steps := []func() error{c.save, c.overwrite, c.replace, c.tree, c.unlinked, c.shrink, c.attribute, c.holes, c.copied, c.stamps}
	for ; c.running(); c.pace() {
		i := c.rng.IntN(len(steps))
		if err := c.timed(steps[i]); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (c *client) save() error {
	want := pattern(c.fresh(), c.rng.IntN(40000))
	if err := os.WriteFile(c.path("cache"), want, 0o600); err != nil {
		return err
	}
	return c.check("cache", want)
}

// overwrite writes pieces of a long file in place.
func (c *client) overwrite() error {
	want := pattern(c.fresh(), 200000)
	f, err := os.OpenFile(c.path("pieces"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(want); err != nil {
		return err
	}
	for range 5 {
		piece := pattern(c.fresh(), 1+c.rng.IntN(20000))
		at := c.rng.IntN(len(want) - len(piece))
		if _, err := f.WriteAt(piece, int64(at)); err != nil {
			return err
		}
		copy(want[at:], piece)
	}
	return c.check("pieces", want)
}

func (c *client) replace() error {
	want := pattern(c.fresh(), 5000)
	if err := os.WriteFile(c.path("temp"), want, 0o600); err != nil {
		return err
	}
	if err := os.Rename(c.path("temp"), c.path("final")); err != nil {
		return err
	}
	if _, err := os.Lstat(c.path("temp")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("temp is still there: %v", err)
	}
	return c.check("final", want)
}

func (c *client) tree() error {
	want := pattern(c.fresh(), 3000)
	for _, f := range []func() error{
		func() error { return os.WriteFile(c.path("leaf"), want, 0o600) },
		func() error { return os.MkdirAll(c.path("d/e"), 0o700) },
		func() error { return os.Link(c.path("leaf"), c.path("d/e/hard")) },
		func() error { return os.Symlink("e/hard", c.path("d/soft")) },
		func() error { return c.check("d/soft", want) },
		func() error { return os.Remove(c.path("leaf")) },
		func() error { return c.check("d/e/hard", want) },
		func() error { return wants(unix.ENOTEMPTY, unix.Rmdir(c.path("d"))) },
		func() error { return wants(unix.EEXIST, unix.Mkdir(c.path("d/e"), 0o700)) },
		func() error { return os.Rename(c.path("d"), c.path("moved")) },
		func() error { return c.check("moved/soft", want) },
		func() error { return os.Remove(c.path("moved/soft")) },
		func() error { return os.Remove(c.path("moved/e/hard")) },
		func() error { return os.Remove(c.path("moved/e")) },
		func() error { return os.Remove(c.path("moved")) },
		func() error { return wants(unix.ENOENT, unix.Unlink(c.path("leaf"))) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func wants(want, err error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("%v, not %w", err, want)
}

// unlinked goes on using files that have no name, and gives one a name.
func (c *client) unlinked() error {
	f, err := os.OpenFile(c.path("gone"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(c.path("gone")); err != nil {
		return err
	}
	want, got := pattern(c.fresh(), 9000), make([]byte, 9000)
	if _, err := f.Write(want); err != nil {
		return err
	}
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("an unlinked file lost its contents: %v", err)
	}
	fd, err := unix.Open(c.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == unix.EOPNOTSUPP {
		return nil // Linux before 6.1
	} else if err != nil {
		return fmt.Errorf("O_TMPFILE: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, want); err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", fd), unix.AT_FDCWD, c.path("linked"), unix.AT_SYMLINK_FOLLOW); err != nil {
		return fmt.Errorf("name a file that had none: %w", err)
	}
	return errors.Join(c.check("linked", want), os.Remove(c.path("linked")))
}

func (c *client) shrink() error {
	want := pattern(c.fresh(), 20000)
	if err := os.WriteFile(c.path("shrunk"), want, 0o600); err != nil {
		return err
	}
	n := 1 + c.rng.IntN(len(want)-1)
	if err := os.Truncate(c.path("shrunk"), int64(n)); err != nil {
		return err
	}
	if err := c.check("shrunk", want[:n]); err != nil {
		return err
	}
	if err := os.Truncate(c.path("shrunk"), int64(len(want))); err != nil {
		return err
	}
	clear(want[n:])
	return c.check("shrunk", want)
}

func (c *client) attribute() error {
	if err := os.WriteFile(c.path("attributed"), nil, 0o600); err != nil {
		return err
	}
	want := pattern(c.fresh(), 1+c.rng.IntN(6000))
	if err := unix.Setxattr(c.path("attributed"), "user.test", want, unix.XATTR_CREATE); err != nil {
		return err
	}
	if err := wants(unix.EEXIST, unix.Setxattr(c.path("attributed"), "user.test", want, unix.XATTR_CREATE)); err != nil {
		return err
	}
	got := make([]byte, 10000)
	n, err := unix.Getxattr(c.path("attributed"), "user.test", got)
	if err != nil || !bytes.Equal(got[:n], want) {
		return fmt.Errorf("attribute: %v", err)
	}
	if err := unix.Removexattr(c.path("attributed"), "user.test"); err != nil {
		return err
	}
	return wants(unix.ENODATA, unix.Removexattr(c.path("attributed"), "user.test"))
}

func (c *client) holes() error {
	f, err := os.OpenFile(c.path("holes"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	want := make([]byte, 100000)
	copy(want[50000:], pattern(c.fresh(), 30000))
	if _, err := f.WriteAt(want[50000:80000], 50000); err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(len(want))); err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 55001, 9000); err != nil {
		return err
	}
	clear(want[55001 : 55001+9000])
	return c.check("holes", want)
}

func (c *client) copied() error {
	want := pattern(c.fresh(), 60000)
	if err := os.WriteFile(c.path("original"), want, 0o600); err != nil {
		return err
	}
	from, err := os.Open(c.path("original"))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(c.path("copy"))
	if err != nil {
		return err
	}
	defer to.Close()
	for left := len(want); left > 0; {
		n, err := unix.CopyFileRange(int(from.Fd()), nil, int(to.Fd()), nil, left, 0)
		if err != nil || n == 0 {
			return fmt.Errorf("copy_file_range copied %d bytes: %v", n, err)
		}
		left -= n
	}
	return c.check("copy", want)
}

func (c *client) stamps() error {
	path := c.path("stamped")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	want := time.Unix(c.rng.Int64N(1<<31), 123456789)
	mode := fs.FileMode(0o400 | c.rng.IntN(0o200))
	if err := errors.Join(os.Chtimes(path, want, want), os.Chmod(path, mode)); err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil || !st.ModTime().Equal(want) || st.Mode() != mode {
		return fmt.Errorf("stamped %v and %v, and it is %v and %v: %v", want, mode, st.ModTime(), st.Mode(), err)
	}
	return os.Remove(path)
}

// handles keeps files open, half of them unlinked, and uses them at random.
func (c *client) handles() error {
	if err := c.own("handles"); err != nil {
		return err
	}
	const count = 300
	var files [count]*os.File
	var want [count][]byte
	for i := range files {
		f, err := os.OpenFile(c.path(fmt.Sprint(i)), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if i%2 == 0 {
			if err := os.Remove(c.path(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		files[i] = f
	}
	for ; c.running(); c.pace() {
		i := c.rng.IntN(count)
		err := c.timed(func() error {
			if len(want[i]) > 20000 {
				want[i] = nil
				if err := files[i].Truncate(0); err != nil {
					return err
				}
			}
			more := pattern(c.fresh(), 1+c.rng.IntN(3000))
			if _, err := files[i].Write(more); err != nil {
				return err
			}
			want[i] = append(want[i], more...)
			got := make([]byte, len(want[i])+1)
			n, _ := files[i].ReadAt(got, 0)
			if !bytes.Equal(got[:n], want[i]) {
				return fmt.Errorf("file %d, open for long: %d bytes are not the %d appended", i, n, len(want[i]))
			}
			st, err := files[i].Stat()
			if err != nil || st.Size() != int64(len(want[i])) || st.Sys().(*syscall.Stat_t).Nlink != uint64(i%2) {
				return fmt.Errorf("file %d, open for long: %v, %v", i, st, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// list reads a long directory in small pieces while names come and go.
func (c *client) list() error {
	if err := c.own("list"); err != nil {
		return err
	}
	const stay = 500
	for i := range stay {
		if err := os.WriteFile(c.path(fmt.Sprint("stays", i)), nil, 0o600); err != nil {
			return err
		}
	}
	for round := 0; c.running(); round++ {
		d, err := os.Open(c.dir)
		if err != nil {
			return err
		}
		seen := map[string]int{}
		buf := make([]byte, 700)
		for piece := 0; ; piece++ {
			n, err := unix.Getdents(int(d.Fd()), buf)
			if err != nil {
				return fmt.Errorf("read the directory: %w", err)
			}
			if n == 0 {
				break
			}
			var names []string
			_, _, names = unix.ParseDirent(buf[:n], -1, nil)
			for _, name := range names {
				seen[name]++
			}
			if piece%10 == 0 {
				name := c.path(fmt.Sprint("comes", piece%30))
				if err := os.WriteFile(name, nil, 0o600); err != nil {
					return err
				}
				if piece%20 == 0 {
					if err := os.Remove(name); err != nil {
						return err
					}
				}
				c.pace()
			}
		}
		d.Close()
		for i := range stay {
			if n := seen[fmt.Sprint("stays", i)]; n != 1 {
				return fmt.Errorf("round %d: a name that stays was listed %d times", round, n)
			}
		}
	}
	return nil
}

// victim kills processes in the middle of their appends.
func (c *client) victim() error {
	if err := c.own("victim"); err != nil {
		return err
	}
	for ; c.running(); c.pace() {
		var out bytes.Buffer
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(1000+c.number), "1", c.dir, c.stop, "/dev/null")
		cmd.Env = append(os.Environ(), roleVar+"=writer")
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			return err
		}
		time.Sleep(time.Duration(30+c.rng.IntN(60)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if msg := out.Bytes(); slices.Contains(msg, ':') {
			return fmt.Errorf("a process that was to be killed: %s", msg)
		}
		told := bytes.Count(out.Bytes(), []byte("\n"))
		b, err := os.ReadFile(c.path("victim"))
		if errors.Is(err, fs.ErrNotExist) && told == 0 {
			continue
		} else if err != nil {
			return err
		}
		if len(b)%victimSize != 0 || len(b)/victimSize < told || len(b)/victimSize > told+1 {
			return fmt.Errorf("a killed process knew of %d records, and there are %d bytes", told, len(b))
		}
		for i := range len(b) / victimSize {
			if !bytes.Equal(b[i*victimSize:(i+1)*victimSize], pattern(int64(i), victimSize)) {
				return fmt.Errorf("a killed process's record %d is not whole", i)
			}
		}
		if err := os.Remove(c.path("victim")); err != nil {
			return err
		}
	}
	return nil
}

const victimSize = 9000

// writer appends and says so, until it is killed.
func (c *client) writer() error {
	f, err := os.OpenFile(c.path("victim"), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for i := int64(0); ; i++ {
		if _, err := f.Write(pattern(i, victimSize)); err != nil {
			return err
		}
		os.Stdout.WriteString("\n")
	}
}

// ping asks for a block again and again, so that pauses are seen whole.
func (c *client) ping() error {
	fd, err := unix.Open(c.path("pinged"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	for ; c.running(); time.Sleep(500 * time.Microsecond) {
		start := clock()
		n, err := unix.Pread(fd, buf, 0)
		end := clock()
		if err != nil || n != 8 || binary.LittleEndian.Uint64(buf) != 42 {
			return fmt.Errorf("read %d bytes: %v", n, err)
		}
		c.times.add(time.Duration(end - start))
		if end-start > int64(time.Millisecond) {
			if err := c.record(Op{"ping", "pause", 0, 0, 0, c.number, start, end}); err != nil {
				return err
			}
		}
	}
	return nil
}
