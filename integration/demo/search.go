package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/integration/scan"
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

// process searches a process that is stopped meanwhile.
func (s *search) process(place string, pid int) (found bool, err error) {
	if err := scan.Stop(pid); err != nil {
		return false, err
	}
	rep, serr := scan.Process(pid, &s.tokens)
	if err := scan.Continue(pid); err != nil {
		return false, err
	}
	return report(place, rep, serr), nil
}

// arena searches the memory files of the daemon.
func (s *search) arena(pid int) (found bool) {
	files, err := scan.Memfds(pid)
	if err != nil {
		return report("the arena", nil, err)
	}
	for _, m := range files {
		name, _, _ := strings.Cut(strings.TrimPrefix(m.Name, "/memfd:"), " ")
		f, err := os.Open(m.Path)
		var rep *scan.Report
		if err == nil {
			rep, err = scan.File(f, &s.tokens)
			f.Close()
		}
		found = report("memory file "+name, rep, err) || found
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
