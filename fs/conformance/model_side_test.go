package conformance

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	fdSlots  = 8
	mapSlots = 3
)

// side is one of the two trees that the model drives, with the descriptors and
// mappings that operations have left open on it.
type side struct {
	top   string // what is compared
	root  string // where paths begin
	fds   [fdSlots]*handle
	maps  [mapSlots]*mapping
	start time.Time

	buf      []byte
	steps    int
	touched  map[string]int  // name: the step that last changed an entry of that name
	mapped   map[uint64]bool // inodes that were mapped: faults change what stat tells, see sweep
	spare    map[uint64]bool // inodes with space set aside: tmpfs shows some of it as data
	tmpfs    bool
	shared   bool   // others change the tree, too
	whole    bool   // saves are, see endDrafts
	mutation string // a bug to imitate, see mutate
}

type handle struct {
	fd     int
	stream *stream // shared with duplicates, as the position is
}

type mapping struct {
	data   []byte
	fd     int // a descriptor of our own, to ask for the file's size
	off    int64
	shared bool
	write  bool
}

// below is where in its directory an episode's root lies: what goes up from
// there through ".." stays within the episode.
const below = "up/up/up/up/root"

func newSide(top string) (*side, error) {
	root := filepath.Join(top, below)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{"d0", "d1", "d0/d2", "big"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return nil, err
		}
	}
	for i := range bigEntries {
		if err := os.WriteFile(filepath.Join(root, "big", bigName(i)), nil, 0o644); err != nil {
			return nil, err
		}
	}
	return openSide(top), nil
}

func openSide(top string) *side {
	root := filepath.Join(top, below)
	var st unix.Statfs_t
	err := unix.Statfs(root, &st)
	return &side{tmpfs: err == nil && st.Type == unix.TMPFS_MAGIC, top: top, root: root, start: time.Now(), touched: map[string]int{}, mapped: map[uint64]bool{}, spare: map[uint64]bool{}}
}

const bigEntries = 40

func bigName(i int) string { return fmt.Sprintf("entry-%02d", i) }

// close drops what is open; the tree stays.
func (s *side) close() {
	for i := range s.maps {
		s.unmap(i)
	}
	for i := range s.fds {
		s.closeFD(i)
	}
}

func (s *side) closeFD(slot int) error {
	h := s.fds[slot]
	if h == nil {
		return nil
	}
	s.fds[slot] = nil
	return unix.Close(h.fd)
}

func (s *side) unmap(slot int) error {
	m := s.maps[slot]
	if m == nil {
		return nil
	}
	s.maps[slot] = nil
	defer unix.Close(m.fd)
	return unix.Munmap(m.data)
}

func (s *side) put(slot, fd int) {
	s.closeFD(slot)
	s.fds[slot] = &handle{fd: fd, stream: &stream{}}
}

// path turns a model path into one for a system call: relative to the root, or,
// as "@3" and "@3/name", to what descriptor slot 3 refers to.
func (s *side) path(p string) string {
	if rest, ok := strings.CutPrefix(p, "@"); ok {
		slot := int(rest[0] - '0')
		fd := 9999 // names nothing
		if h := s.fds[slot]; h != nil {
			fd = h.fd
		}
		return fmt.Sprintf("/proc/self/fd/%d%s", fd, rest[1:])
	}
	return s.root + "/" + p
}

// errNoFD is the result of an operation on an empty slot.
const errNoFD = syscall.Errno(unix.EBADF)

func (s *side) fd(slot int) int {
	if h := s.fds[slot]; h != nil {
		return h.fd
	}
	return -1
}

// do runs one operation and tells what came of it.
func (s *side) do(o op) (result string) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	def := definitions[o.Kind]
	if def == nil {
		return "no such operation: " + o.Kind
	}
	s.steps++
	if def.names {
		for _, p := range []string{o.P, o.Q} {
			s.touched[filepath.Base(p)] = s.steps
		}
	}
	var probes []probe
	if o.Probe != 0 {
		probes = s.probe(o)
	}
	func() {
		defer func() {
			if r := recover(); r != nil {
				if _, fault := r.(interface{ Addr() uintptr }); !fault {
					panic(r)
				}
				result = "SIGBUS"
			}
		}()
		result = s.mutate(o, func(o op) string { return def.run(s, o) })
	}()
	for _, p := range probes {
		result += s.changed(p)
	}
	if s.whole {
		s.endDrafts(o)
	}
	return result
}

// endDrafts brings to its end what an operation has begun and what tmpfs knows
// nothing of: a draft by fsync, a load by reading at its end.
func (s *side) endDrafts(o op) {
	for _, slot := range []int{o.S, o.T} {
		if h := s.fds[slot]; h != nil {
			unix.Fsync(h.fd)
			unix.Pread(h.fd, make([]byte, 1), 1<<62)
		}
	}
}

// scratch is a cleared buffer, good until the next call.
func (s *side) scratch(n int64) []byte {
	if int64(len(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	clear(s.buf[:n])
	return s.buf[:n:n]
}

func (s *side) sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(s.fd(a), &x) == nil && unix.Fstat(s.fd(b), &y) == nil && x.Ino == y.Ino
}

func ret(n int, err error) string {
	if err != nil {
		return errName(err)
	}
	return strconv.Itoa(n)
}

func errName(err error) string {
	if err == nil {
		return "ok"
	}
	if errno, ok := err.(syscall.Errno); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	}
	return err.Error()
}

func digest(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), 16)
}
