package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cache is a file of MSAL.NET's.
type cache string

// locked is CrossPlatLock: a FileStream that nobody shares and that is deleted
// on close, which on Unix is a file that is locked, seen to be still the one of
// that name, and unlinked while it is locked.
func (c cache) locked(f func() error) error {
	if err := os.MkdirAll(filepath.Dir(string(c)), 0o777); err != nil {
		return err
	}
	path := string(c) + ".lockfile"
	for range 600 {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
		if err != nil {
			return fmt.Errorf("open the lock file: %w", err)
		}
		held := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		var ours, there unix.Stat_t
		if held == nil {
			held = unix.Fstat(fd, &ours)
		}
		if held == nil {
			held = unix.Stat(path, &there)
		}
		if held == nil && ours.Ino == there.Ino && ours.Dev == there.Dev {
			if _, err := unix.Write(fd, fmt.Appendf(nil, "%d gcm", os.Getpid())); err != nil {
				return fmt.Errorf("write the lock file: %w", err)
			}
			err := f()
			return errors.Join(err, unix.Unlink(path), unix.Flock(fd, unix.LOCK_UN), unix.Close(fd))
		}
		unix.Close(fd)
		switch {
		case held == nil, held == unix.ENOENT:
			continue // another's file by now: at once again
		case held != unix.EWOULDBLOCK:
			return fmt.Errorf("lock the lock file: %w", held)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the lock is not to be had in 60 s")
}

// write refuses a link in the file's place, as MSAL.NET from 4.86.1 on.
func (c cache) write(name string, b []byte) error {
	if st, err := os.Lstat(name); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link: MSAL.NET refuses it", name)
	}
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s to write it: %w", name, err)
	}
	_, err = unix.Write(fd, b)
	return errors.Join(err, unix.Close(fd))
}

// readAll is File.ReadAllBytes.
func readAll(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, err
	}
	b := make([]byte, st.Size)
	n, err := unix.Pread(fd, b, 0)
	return b[:max(n, 0)], errors.Join(err, unix.Flock(fd, unix.LOCK_UN))
}

// A store is GCM's plain credential store; "-" is none.
type store string

func (s store) file(user string) string {
	return filepath.Join(string(s), "git/https/dev.azure.com/tests", user+".credential")
}

// put is PlaintextCredentialStore: the root is made private only where it is
// made, and the file only by that.
func (s store) put(user, password string) error {
	if s == "-" {
		return nil
	}
	if _, err := os.Stat(string(s)); err != nil {
		if err := errors.Join(os.MkdirAll(string(s), 0o777), os.Chmod(string(s), 0o700)); err != nil {
			return err
		}
	}
	name := s.file(user)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB), unix.Ftruncate(fd, 0))
	if err == nil {
		_, err = unix.Write(fd, []byte(password+"\nservice=https://dev.azure.com/tests\naccount="+user+"\n"))
	}
	return errors.Join(err, unix.Close(fd))
}

// check sees that there is a credential of everybody who is signed in, as get
// looks for them: by listing.
func (s store) check(want int) error {
	if s == "-" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(s.file("")))
	if err != nil {
		return err
	}
	n := 0
	for _, e := range entries {
		if b, err := readAll(filepath.Join(filepath.Dir(s.file("")), e.Name())); err == nil && strings.Contains(string(b), "account="+strings.TrimSuffix(e.Name(), ".credential")+"\n") {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d credentials in the store, and %d accounts", n, want)
	}
	return nil
}

func (s store) erase() error {
	if s == "-" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(s.file("")))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(filepath.Dir(s.file("")), e.Name())); err != nil {
			return err
		}
	}
	return nil
}
