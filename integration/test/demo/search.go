package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/scan"
)

// A search looks for the tokens in one place after the other.
type search struct {
	tokens scan.Set
	bytes  int
}

func newSearch(tokens []string) (*search, error) {
	s := &search{}
	for _, token := range tokens {
		s.bytes += len(token)
		if err := s.tokens.Add("a token", []byte(token)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// errFound means that a token was where it must not be, and is the worst that
// a demo can end with.
var errFound = errors.New("a token was found where none may be: please report this")

// report shows what a search of a place came to, and whether it found a token.
func report(place string, rep *scan.Report, err error) (found bool) {
	switch {
	case errors.Is(err, os.ErrPermission):
		say("%-27s REFUSED: %v", place, err)
		return false
	case err != nil:
		say("%-27s NOT SEARCHED: %v", place, err)
		return false
	case len(rep.Hits) > 0:
		say("%-27s %9s read: FOUND in %d places", place, size(rep.Bytes), len(rep.Hits))
	default:
		say("%-27s %9s read: not found", place, size(rep.Bytes))
	}
	for _, u := range rep.Unread {
		what := u.Region.Name
		if strings.HasPrefix(what, "/secretmem") {
			what = "memfd_secret, where the keys are"
		}
		say("%-27s %9s UNREAD: %s: %v", "", size(int64(u.End-u.Start)), what, u.Err)
	}
	return len(rep.Hits) > 0
}

// daemonPIDs asks the kernel who listens on the control socket, and for the
// children of that.
func daemonPIDs(socket string) ([]int, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, cerr); err != nil {
		return nil, err
	}
	return scan.Family(int(cred.Pid))
}

// process searches a process.
func (s *search) process(place string, pid int) (found bool) {
	rep, err := scan.Process(pid, &s.tokens)
	return report(fmt.Sprintf("%s, process %d", place, pid), rep, err)
}

// daemon searches the processes of the daemon and its memory files, all of
// them as they are at one instant.
func (s *search) daemon(mountpoint string) error {
	pids, err := daemonPIDs(mountpoint + ".sock")
	if err != nil {
		return err
	}
	defer goOn(pids)
	for _, pid := range pids { // the keeper first, who watches over the others
		if err := scan.Stop(pid); err != nil {
			return err
		}
	}
	found := false
	for i, pid := range pids {
		place := "the keeper"
		if i > 0 {
			place = "the worker"
		}
		found = s.process(place, pid) || found
	}
	if s.files(pids[0]) || found {
		return errFound
	}
	return nil
}

func goOn(pids []int) {
	for _, pid := range slices.Backward(pids) {
		scan.Continue(pid)
	}
}

// files searches the memory files of the daemon: sealed contents and, where
// there is no memfd_secret, keys.
func (s *search) files(pid int) (found bool) {
	files, err := scan.Memfds(pid)
	if err != nil {
		return report("the arena", nil, err)
	}
	for _, m := range files {
		name, _, _ := strings.Cut(strings.TrimPrefix(m.Name, "/memfd:tokenfs-"), " ")
		f, err := os.Open(m.Path)
		var rep *scan.Report
		if err == nil {
			rep, err = scan.File(f, &s.tokens)
			f.Close()
		}
		found = report("the memory file "+name, rep, err) || found
	}
	return found
}

// pageCache counts what the kernel has cached of the cache file, and of a copy
// that is kept where files usually are.
func pageCache(cache *os.File) (cached bool, err error) {
	b := make([]byte, 1<<20)
	n, err := cache.ReadAt(b, 0)
	if n == 0 {
		return false, err
	}
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		return false, err
	}
	duplicate := os.NewFile(uintptr(fd), "a copy")
	defer duplicate.Close()
	if _, err := duplicate.Write(b[:n]); err != nil {
		return false, err
	}
	for _, f := range []struct {
		name string
		*os.File
	}{{"a copy on tmpfs", duplicate}, {"the cache on tokenfs", cache}} {
		pages, how, err := scan.CachedPages(f.File)
		if err != nil {
			return false, err
		}
		say("%-27s %s in the page cache (%s)", f.name, plural(pages, "page"), how)
		cached = pages > 0
	}
	return cached, nil
}

func plural(n uint64, what string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
