package conformance

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

type entry struct {
	name   string
	ino    uint64
	kind   uint8
	cookie int64 // where the next entry is
}

func parseEntries(buf []byte) []entry {
	var out []entry
	for len(buf) > 0 {
		reclen := binary.NativeEndian.Uint16(buf[16:])
		name := string(buf[19:reclen])
		name, _, _ = strings.Cut(name, "\x00")
		out = append(out, entry{
			name:   name,
			ino:    binary.NativeEndian.Uint64(buf),
			kind:   buf[18],
			cookie: int64(binary.NativeEndian.Uint64(buf[8:])),
		})
		buf = buf[reclen:]
	}
	return out
}

func readEntries(fd int) ([]entry, error) {
	var out []entry
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return out, err
		}
		out = append(out, parseEntries(buf[:n])...)
	}
}

func (s *side) isDir(slot int) bool {
	var st unix.Stat_t
	return unix.Fstat(s.fd(slot), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// stream follows one reading of a directory. Order and size of the pieces are
// the filesystem's own affair, so it is judged by what POSIX promises: every
// entry that stays as it is comes exactly once.
type stream struct {
	active  bool
	whole   bool // read from its start without a jump
	began   int  // step
	start   map[string]bool
	seen    map[string]int
	cookies []int64
	next    map[int64]string // what followed a cookie, unless the directory changed since
}

func runGetdents(s *side, o op) string {
	h := s.fds[o.S]
	if h == nil {
		return errName(errNoFD)
	}
	st := h.stream
	if !st.active {
		*st = stream{active: true, whole: true, began: s.steps, start: map[string]bool{}, seen: map[string]int{}, next: map[int64]string{}}
		pos, err := unix.Seek(h.fd, 0, unix.SEEK_CUR)
		st.whole = err == nil && pos == 0
		if fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", h.fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC, 0); err != nil {
			st.whole = false // its mode has changed: what is there cannot be told
		} else {
			list, _ := readEntries(fd)
			unix.Close(fd)
			for _, e := range list {
				st.start[e.name] = true
			}
		}
	}
	from, _ := unix.Seek(h.fd, 0, unix.SEEK_CUR)
	buf := make([]byte, o.Len)
	n, err := unix.Getdents(h.fd, buf)
	if err != nil {
		st.active = false
		return errName(err)
	}
	// Only the entries of the big directory are judged: the others also come
	// and go through symbolic links, by names that no operation shows.
	quiet := func(name string) bool {
		return strings.HasPrefix(name, "entry-") && s.touched[name] < st.began && !s.shared
	}
	for i, e := range parseEntries(buf[:n]) {
		if i == 0 {
			if want := st.next[from]; want != "" && want != e.name && quiet(want) {
				return fmt.Sprintf("after seekdir to the same place %q, before it was %q", e.name, want)
			}
			st.next[from] = e.name
		}
		st.seen[e.name]++
		st.cookies = append(st.cookies, e.cookie)
		if st.whole && quiet(e.name) {
			if st.seen[e.name] > 1 {
				return fmt.Sprintf("%q twice", e.name)
			}
			if !st.start[e.name] {
				return fmt.Sprintf("%q was not there", e.name)
			}
		}
	}
	if n == 0 {
		if st.whole {
			for name := range st.start {
				if st.seen[name] == 0 && quiet(name) {
					return fmt.Sprintf("%q is missing", name)
				}
			}
		}
		st.active = false
	}
	return "ok"
}

// runSeekdir goes back to a place that the stream gave us, or to the start.
func runSeekdir(s *side, o op) string {
	h := s.fds[o.S]
	if h == nil {
		return errName(errNoFD)
	}
	st := h.stream
	if !st.active || len(st.cookies) == 0 || o.Off == 0 {
		_, err := unix.Seek(h.fd, 0, unix.SEEK_SET)
		st.active = false
		return errName(err)
	}
	st.whole = false
	// A share of the way, not a number: the sides are not equally far.
	k := int(o.Off) * (len(st.cookies) - 1) / 1000
	_, err := unix.Seek(h.fd, st.cookies[k], unix.SEEK_SET)
	return errName(err)
}
