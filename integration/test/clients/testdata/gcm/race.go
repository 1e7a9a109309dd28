package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// race is race.py, in .NET's system calls: a FileStream is opened, then locked, and
// only then cut.
func race(verb, path, count string) error {
	if verb == "save" {
		over := make(chan struct{})
		go func() { io.Copy(io.Discard, os.Stdin); close(over) }()
		for n := 1; ; n++ {
			if err := save(path, saved(n)); err != nil {
				return err
			}
			select {
			case <-over:
				return nil
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	var empty, halves, versions, last int
	want, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for range want {
		b, err := readToEnd(path)
		if err != nil {
			return err
		}
		number, _, _ := bytes.Cut(b, []byte(":"))
		n, err := strconv.Atoi(string(number))
		switch {
		case len(b) == 0:
			empty++
		case err != nil || !bytes.Equal(b, saved(n)):
			halves++
		case n != last:
			versions, last = versions+1, n
		}
	}
	fmt.Println(empty, halves, versions)
	return nil
}

func saved(n int) []byte {
	return fmt.Appendf(nil, "%d:%s:%d", n, bytes.Repeat([]byte("x"), 500+n*7919%60000), n)
}

func save(path string, b []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Flock(fd, unix.LOCK_EX), unix.Ftruncate(fd, 0))
	for len(b) > 0 && err == nil { // a FileStream writes what its buffer holds
		var n int
		n, err = unix.Write(fd, b[:min(len(b), 4096)])
		b = b[max(n, 0):]
	}
	return errors.Join(err, unix.Close(fd))
}

// readToEnd is a StreamReader's: it goes on until nothing comes.
func readToEnd(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			return all, err
		}
		all = append(all, buf[:n]...)
	}
}
