package apps

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A lock that somebody holds, or left.
type lockFile struct {
	path  string
	pid   int  // 0 if it does not say
	alive bool // somebody holds it, or nobody can tell
	err   error
}

// examine looks at a file as the apps' lock protocols do.
func (p *Place) examine(name string) (l lockFile, locks bool) {
	l.path = name
	base := filepath.Base(name)
	f, err := openQuietly(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP):
		return l, false
	case errors.Is(err, fs.ErrPermission): // kubectl makes its lock file without any
		l.alive = true
		return l, p.isLock(base)
	case err != nil:
		l.alive, l.err = true, err
		return l, true
	}
	defer f.Close()
	if held(f) {
		l.pid, _ = ownerOf(f)
		l.alive = true
		return l, true
	}
	if !p.isLock(base) {
		return l, false
	}
	var program string
	l.pid, program = ownerOf(f)
	// One of tokenfs's own is held for as long as its process is there, whoever
	// has that pid now.
	l.alive = program != ownLock && (l.pid == 0 || unix.Kill(l.pid, 0) != unix.ESRCH)
	return l, true
}

// ownLock is what comes after the pid in the locks that hold makes.
const ownLock = "tokenfs"

// held says whether anybody has a lock of the kernel's on f.
func held(f *os.File) bool {
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK {
		return true
	}
	unix.Flock(int(f.Fd()), unix.LOCK_UN)
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &whole)
	return err == nil && whole.Type != unix.F_UNLCK
}

// ownerOf reads the pid, and the program, that lock files begin with.
func ownerOf(f *os.File) (pid int, program string) {
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	word, program, _ := strings.Cut(strings.TrimSpace(string(text[:n])), " ")
	pid, err := strconv.Atoi(strings.Trim(word, "{}"))
	if err != nil || pid <= 0 {
		return 0, ""
	}
	return pid, program
}

// locksIn finds the locks on what is in a place's directory, or on its file.
func (p *Place) locksIn(dir string) (found []lockFile) {
	if p.File != "" {
		if l, ok := p.examine(filepath.Join(dir, p.File)); ok {
			found = append(found, l)
		}
		return found
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !p.moves(e.Name()) && !p.isLock(e.Name()) && !p.isFlock(e.Name()) {
			continue
		}
		filepath.WalkDir(filepath.Join(dir, e.Name()), func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if l, ok := p.examine(name); ok {
					found = append(found, l)
				}
			}
			return nil
		})
	}
	return found
}

// refuseLocked is an error if an app is at work in the directory.
func (p *Place) refuseLocked(dir string) error {
	for _, l := range p.locksIn(dir) {
		switch {
		case l.err != nil:
			return fmt.Errorf("look for locks: %w: %s", l.err, helps(l.err, "look what is wrong there, then try again"))
		case l.alive && l.pid != 0:
			return fmt.Errorf("%s is locked by process %d, %s: let it end, then try again", l.path, l.pid, programOf(l.pid))
		case l.alive:
			return fmt.Errorf("%s is locked, it does not say by whom: let the app end, or remove it if none is running, then try again", l.path)
		}
	}
	return nil
}

func programOf(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "which has ended"
	}
	return strconv.Quote(strings.TrimSpace(string(comm)))
}

// hold takes the locks of the apps that use dir, in each of their ways, until
// release. They wait meanwhile; afterwards they find the files elsewhere.
func (p *Place) hold(dir string) (release func(), err error) {
	var files []*os.File
	var made []string
	letGo := func() {
		for _, name := range made {
			os.Remove(name)
			os.Remove(filepath.Join(keptOf(dir), filepath.Base(name))) // where the exchange took it
		}
		for _, f := range files {
			f.Close()
		}
	}
	defer func() {
		if err != nil {
			letGo()
		}
	}()
	if err := p.removeStale(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if p.isFlock(e.Name()) {
			f, err := os.Open(name)
			if err != nil {
				return nil, fmt.Errorf("take the lock %s: %w: %s", name, err, helps(err, "let the app that uses it end, then try again"))
			}
			files = append(files, f)
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
				return nil, p.refuseLocked(dir)
			}
		}
		for _, suffix := range []string{".lockfile", ".lock"} {
			if p.unknown || !p.moves(e.Name()) || !p.isLock(e.Name()+suffix) {
				continue
			}
			f, err := os.OpenFile(name+suffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return nil, fmt.Errorf("take the lock of %s: %w: %s", name, err, helps(err, "let the app that uses it end, then try again"))
			}
			files, made = append(files, f), append(made, name+suffix)
			unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			fmt.Fprintf(f, "%d %s", os.Getpid(), ownLock)
		}
	}
	return letGo, nil
}

// removeStale removes lock files whose owner is dead, be it a run of this.
func (p *Place) removeStale(dir string) error {
	var errs []error
	for _, l := range p.locksIn(dir) {
		if !l.alive {
			errs = append(errs, os.Remove(l.path))
		}
	}
	return errors.Join(errs...)
}
