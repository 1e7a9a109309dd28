package torture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clients that share objects. What they see is right or wrong only together,
// and is judged by the models of history.go.

// result turns the errors that an operation on names may have into results.
func result(err error) (int64, error) {
	switch {
	case err == nil:
		return ResultOK, nil
	case errors.Is(err, unix.EEXIST):
		return ResultExists, nil
	case errors.Is(err, unix.ENOENT):
		return ResultAbsent, nil
	}
	return 0, err
}

const nameCount = 4

func (c *client) names() error {
	path := func(i int64) string { return c.path("name" + strconv.FormatInt(i, 10)) }
	for c.running() {
		a := c.rng.Int64N(nameCount)
		b := (a + 1 + c.rng.Int64N(nameCount-1)) % nameCount
		kind, f := "", func() error { return nil }
		arg := b
		switch c.rng.IntN(7) {
		case 0:
			kind, arg = "create", -1
			f = func() error {
				fd, err := unix.Open(path(a), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
				if err == nil {
					err = unix.Close(fd)
				}
				return err
			}
		case 1:
			kind, arg = "symlink", c.fresh()
			f = func() error { return unix.Symlink(strconv.FormatInt(arg, 10), path(a)) }
		case 2:
			kind, arg = "unlink", 0
			f = func() error { return unix.Unlink(path(a)) }
		case 3:
			kind = "rename"
			f = func() error { return unix.Rename(path(a), path(b)) }
		case 4:
			kind = "move"
			f = func() error {
				return unix.Renameat2(unix.AT_FDCWD, path(a), unix.AT_FDCWD, path(b), unix.RENAME_NOREPLACE)
			}
		case 5:
			kind = "exchange"
			f = func() error {
				return unix.Renameat2(unix.AT_FDCWD, path(a), unix.AT_FDCWD, path(b), unix.RENAME_EXCHANGE)
			}
		case 6:
			kind = "readlink"
			err := c.do("names", kind, a, 0, func() (int64, error) {
				buf := make([]byte, 100)
				n, err := unix.Readlink(path(a), buf)
				if err == unix.EINVAL {
					return ResultFile, nil
				} else if err != nil {
					return result(err)
				}
				return strconv.ParseInt(string(buf[:n]), 10, 64)
			})
			if err != nil {
				return err
			}
			continue
		}
		if err := c.do("names", kind, a, arg, func() (int64, error) { return result(f()) }); err != nil {
			return err
		}
		c.pace()
	}
	return nil
}

// registerSize is neither one block nor whole ones.
const registerSize = 5000

// register writes and reads contents in place, and by replacing a file.
func (c *client) register() error {
	fd, err := unix.Open(c.path("register"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, registerSize)
	value := func(n int, err error) (int64, error) {
		if err != nil || n != registerSize {
			return 0, fmt.Errorf("read %d bytes of %d: %v", n, registerSize, err)
		}
		id := int64(binary.LittleEndian.Uint64(buf))
		if !bytes.Equal(buf[8:], pattern(id, registerSize)[8:]) {
			return 0, fmt.Errorf("the contents are not those of any write, though they begin as those of %d", id)
		}
		return id, nil
	}
	for c.running() {
		var err error
		id := c.fresh()
		content := pattern(id, registerSize)
		binary.LittleEndian.PutUint64(content, uint64(id))
		switch c.rng.IntN(4) {
		case 0:
			err = c.do("in-place", "write", id, 0, func() (int64, error) {
				n, err := unix.Pwrite(fd, content, 0)
				if err == nil && n != len(content) {
					err = fmt.Errorf("wrote %d bytes of %d", n, len(content))
				}
				return 0, err
			})
		case 1:
			err = c.do("in-place", "read", 0, 0, func() (int64, error) { return value(unix.Pread(fd, buf, 0)) })
		case 2:
			temp := c.path(fmt.Sprint("temp", c.number))
			if err := os.WriteFile(temp, content, 0o600); err != nil {
				return err
			}
			err = c.do("replaced", "write", id, 0, func() (int64, error) { return 0, unix.Rename(temp, c.path("replaced")) })
		case 3:
			err = c.do("replaced", "read", 0, 0, func() (int64, error) {
				b, err := os.ReadFile(c.path("replaced"))
				return value(copy(buf, b), err)
			})
		}
		if err != nil {
			return err
		}
		c.pace()
	}
	return nil
}

// An appended record is its number, its length, and a pattern.
const recordHead = 16

// appends appends records to a file that others append to as well; which
// number each got in it is seen at the end.
func (c *client) appends() error {
	fd, err := unix.Open(c.path("journal"), unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for c.running() {
		id, n := c.fresh(), recordHead+c.rng.IntN(900)
		record := pattern(id, n)
		binary.LittleEndian.PutUint64(record, uint64(id))
		binary.LittleEndian.PutUint64(record[8:], uint64(n))
		err := c.do("journal", "append", id, 0, func() (int64, error) {
			m, err := unix.Write(fd, record)
			if err == nil && m != n {
				err = fmt.Errorf("wrote %d bytes of %d", m, n)
			}
			return 0, err
		})
		if err != nil {
			return err
		}
		c.pace()
	}
	return nil
}

// journal reads what was appended, and says which record came at which place.
func journal(path string) (place map[int64]int64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	place = map[int64]int64{}
	for at := 0; at < len(b); {
		if len(b)-at < recordHead {
			return nil, fmt.Errorf("%s ends in the middle of a record", path)
		}
		id, n := int64(binary.LittleEndian.Uint64(b[at:])), binary.LittleEndian.Uint64(b[at+8:])
		if n < recordHead || n > uint64(len(b)-at) || !bytes.Equal(b[at+recordHead:at+int(n)], pattern(id, int(n))[recordHead:]) {
			return nil, fmt.Errorf("%s: at %d is no whole record", path, at)
		}
		if _, twice := place[id]; twice {
			return nil, fmt.Errorf("%s: record %d is there twice", path, id)
		}
		place[id] = int64(len(place))
		at += int(n)
	}
	return place, nil
}

// lockLimit is how long a lock that is passed on all the time may stay out of
// reach: one that nobody holds and nobody gets is a wrong result too.
const lockLimit = 40 * time.Second

// exclude counts in a file that is replaced under a lock made with O_EXCL.
func (c *client) exclude() error {
	lock, count := c.path("exclude.lock"), c.path("exclude")
	for c.running() {
		err := c.do("exclude", "next", 0, 0, func() (int64, error) {
			for since := time.Now(); ; c.pace() {
				f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err == nil {
					f.Close()
					break
				}
				if !errors.Is(err, unix.EEXIST) {
					return 0, err
				}
				if time.Since(since) > lockLimit {
					return 0, fmt.Errorf("%w for %v: nobody holds the lock", err, lockLimit)
				}
			}
			b, err := os.ReadFile(count)
			if err != nil {
				return 0, err
			}
			n, err := strconv.ParseInt(string(b), 10, 64)
			if err != nil {
				return 0, err
			}
			temp := c.path(fmt.Sprint("exclude", c.number))
			if err := os.WriteFile(temp, strconv.AppendInt(nil, n+1, 10), 0o600); err != nil {
				return 0, err
			}
			if err := os.Rename(temp, count); err != nil {
				return 0, err
			}
			return n, os.Remove(lock)
		})
		if err != nil {
			return err
		}
		c.pace()
	}
	return nil
}

// flock counts in place under flock(2) on a file that whoever holds the lock
// unlinks, so that a lock counts only if the name still leads to it.
func (c *client) flock() error {
	fd, err := unix.Open(c.path("flock"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for c.running() {
		err := c.do("flock", "next", 0, 0, func() (int64, error) {
			unlock, err := c.lockAndUnlink(c.path("flock.lock"))
			if err != nil {
				return 0, err
			}
			var b [8]byte
			if n, err := unix.Pread(fd, b[:], 0); n != 8 || err != nil {
				return 0, fmt.Errorf("read %d bytes: %v", n, err)
			}
			was := binary.LittleEndian.Uint64(b[:])
			binary.LittleEndian.PutUint64(b[:], was+1)
			if n, err := unix.Pwrite(fd, b[:], 0); n != 8 || err != nil {
				return 0, fmt.Errorf("wrote %d bytes: %v", n, err)
			}
			return int64(was), unlock()
		})
		if err != nil {
			return err
		}
		c.pace()
	}
	return nil
}

func (c *client) lockAndUnlink(path string) (unlock func() error, err error) {
	for {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		var held, named unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &held)
		}
		if err != nil {
			unix.Close(fd)
			return nil, err
		}
		err = unix.Stat(path, &named)
		if err == nil && named.Ino == held.Ino {
			return func() error { return errors.Join(unix.Unlink(path), unix.Close(fd)) }, nil
		}
		unix.Close(fd)
		if err != nil && err != unix.ENOENT {
			return nil, err
		}
	}
}

// mapping counts in memory that several processes map, while the file is also
// read, written, opened and closed.
func (c *client) mapping() error {
	const size = 4 * 4096
	fd, err := unix.Open(c.path("mapped"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	shared, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	// And a file of its own, through the mapping and around it.
	own, err := unix.Open(c.path(fmt.Sprint("mapped", c.number)), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	if err := unix.Ftruncate(own, size); err != nil {
		return err
	}
	view, err := unix.Mmap(own, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	buf := make([]byte, size)
	counted := int64(0)
	for ; c.running(); c.pace() {
		for page := range 4 {
			atomic.AddInt64((*int64)(unsafe.Pointer(&shared[page*4096])), 1)
		}
		counted++
		switch c.rng.IntN(4) {
		case 0:
			err = c.timed(func() error { return unix.Msync(shared, unix.MS_SYNC) })
		case 1: // closing tells the worker, which has the kernel forget pages
			err = c.timed(func() error { _, err := os.ReadFile(c.path("mapped")); return err })
		case 2:
			want := pattern(c.fresh(), size)
			copy(view, want)
			if err = c.timed(func() error { return unix.Msync(view, unix.MS_SYNC) }); err == nil {
				_, err = unix.Pread(own, buf, 0)
			}
			if err == nil && !bytes.Equal(buf, want) {
				err = errors.New("what was stored through a mapping and synced is not read")
			}
		case 3:
			want := pattern(c.fresh(), size)
			if err = c.timed(func() error { _, err := unix.Pwrite(own, want, 0); return err }); err == nil && !bytes.Equal(view, want) {
				err = errors.New("what was written is not seen through a mapping")
			}
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Munmap(shared), unix.Munmap(view)); err != nil {
		return err
	}
	return c.record(Op{"mapped", "counted", 0, 0, counted, c.number, 0, 0})
}
