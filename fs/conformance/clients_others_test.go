package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// azd: a blocking flock on a file that stays. int128/kubelogin does the same.
func azd(c client) error {
	fd, err := openCall(filepath.Join(c.Dir, "cache.json.lock"), unix.O_RDONLY|unix.O_CREAT, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return call("flock", err)
	}
	return errors.Join(
		increment(filepath.Join(c.Dir, cacheName), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC),
		call("flock", unix.Flock(fd, unix.LOCK_UN)),
		call("close", unix.Close(fd)),
	)
}

// kubectl: a lock file of mode 000.
func kubectl(c client) error {
	lock := filepath.Join(c.Dir, "config.lock")
	err := until("config.lock", func() (bool, error) {
		fd, err := openCall(lock, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL, 0)
		if errors.Is(err, unix.EEXIST) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, call("close", unix.Close(fd))
	})
	if err != nil {
		return err
	}
	return errors.Join(
		increment(filepath.Join(c.Dir, cacheName), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC),
		call("unlink", unix.Unlink(lock)),
	)
}

// docker: no lock; a temporary file that is renamed over config.json.
func docker(c client) error {
	cache := filepath.Join(c.Dir, cacheName)
	if b, err := os.ReadFile(cache); err == nil {
		if _, err := parseDocument(b); err != nil || len(b) == 0 {
			return fmt.Errorf("a reader between two renames: %d bytes, %v", len(b), err)
		}
	} else if !errors.Is(err, unix.ENOENT) {
		return err
	}
	tmp := filepath.Join(c.Dir, fmt.Sprintf("config.json%d", os.Getpid()))
	if err := rewrite(tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600, document(os.Getpid())); err != nil {
		return err
	}
	if _, err := unix.Readlink(cache, make([]byte, 100)); err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("readlink: %v", err)
	}
	return errors.Join(
		call("chmod", unix.Chmod(tmp, 0o600)),
		call("chown", unix.Chown(tmp, os.Getuid(), os.Getgid())),
		call("rename", unix.Rename(tmp, cache)),
	)
}

// botocore: the same with fsync, and readers that look for *.json.
func botocore(c client) error {
	tmp := filepath.Join(c.Dir, fmt.Sprintf("tmp%d.tmp", os.Getpid()))
	fd, err := openCall(tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(
		writeAll(fd, document(os.Getpid())),
		call("fsync", unix.Fsync(fd)),
		call("close", unix.Close(fd)),
		call("rename", unix.Rename(tmp, filepath.Join(c.Dir, cacheName))),
	)
	if err != nil {
		return err
	}
	names, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	found := 0
	for _, e := range names {
		if e.Name() != cacheName {
			continue
		}
		found++
		b, err := os.ReadFile(filepath.Join(c.Dir, e.Name()))
		if err != nil {
			return err
		}
		if _, err := parseDocument(b); err != nil || len(b) == 0 {
			return fmt.Errorf("%s has %d bytes: %v", e.Name(), len(b), err)
		}
	}
	if found != 1 {
		return fmt.Errorf("%s is listed %d times while it is being renamed over", cacheName, found)
	}
	return nil
}

// sqlite: a rollback journal's transaction, with its POSIX locks at 1 GiB.
func sqlite(c client) error {
	const pending, reserved, shared = 1 << 30, 1<<30 + 1, 1<<30 + 2
	path := filepath.Join(c.Dir, cacheName)
	fd, err := openCall(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // which drops all locks
	lock := func(kind int16, start, length int64) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
	}
	try := func() (bool, error) {
		steps := []func() error{
			func() error { return lock(unix.F_RDLCK, pending, 1) },
			func() error { return lock(unix.F_RDLCK, shared, 510) },
			func() error { return lock(unix.F_UNLCK, pending, 1) },
			func() error { return lock(unix.F_WRLCK, reserved, 1) },
			func() error { return lock(unix.F_WRLCK, pending, 1) },
			func() error { return lock(unix.F_WRLCK, shared, 510) },
		}
		for _, step := range steps {
			if err := step(); err == unix.EAGAIN || err == unix.EACCES {
				return false, lock(unix.F_UNLCK, 0, 0)
			} else if err != nil {
				return false, call("fcntl F_SETLK", err)
			}
		}
		return true, nil
	}
	if err := until("exclusive lock", try); err != nil {
		return err
	}
	page := make([]byte, 4096)
	got, err := unix.Pread(fd, page, 0)
	if err != nil {
		return call("pread", err)
	}
	n, _ := strconv.Atoi(strings.TrimRight(string(page[:min(got, 16)]), "\x00"))
	journal, err := openCall(path+"-journal", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	dir, err := openCall(c.Dir, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	_, writeErr := unix.Pwrite(journal, page, 512)
	next := make([]byte, 4096)
	copy(next, strconv.Itoa(n+1))
	err = errors.Join(
		call("fchown", unix.Fchown(journal, os.Getuid(), os.Getgid())),
		call("pwrite", writeErr),
		call("fdatasync", unix.Fdatasync(journal)),
		call("fdatasync of the directory", unix.Fdatasync(dir)),
		call("close", unix.Close(dir)),
	)
	_, writeErr = unix.Pwrite(fd, next, 0)
	return errors.Join(err,
		call("pwrite", writeErr),
		call("fdatasync", unix.Fdatasync(fd)),
		call("close", unix.Close(journal)),
		call("unlink", unix.Unlink(path+"-journal")),
		call("fcntl F_UNLCK", lock(unix.F_UNLCK, 0, 0)),
	)
}
