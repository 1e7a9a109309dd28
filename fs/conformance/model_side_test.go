package conformance

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
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
	return result
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

// A probe sets the times of one object to known values before an operation and
// tells afterwards which of them moved.
type probe struct {
	label  string
	fd     int
	before unix.Stat_t
}

// probeEpoch is the same in all processes of a test run.
var probeEpoch = func() time.Time {
	if t, err := time.Parse(time.RFC3339, os.Getenv(envEpoch)); err == nil {
		return t
	}
	now := time.Now().UTC().Truncate(time.Second)
	os.Setenv(envEpoch, now.Format(time.RFC3339))
	return now
}()

// probeTimes are access and modification time: relatime behaves differently
// for each pair.
func probeTimes(variant int) []unix.Timespec {
	old := unix.Timespec{Sec: 1_000_000_000, Nsec: 123456789}
	recent := unix.NsecToTimespec(probeEpoch.Add(-time.Hour).UnixNano())
	future := unix.NsecToTimespec(probeEpoch.Add(4 * time.Hour).UnixNano())
	switch variant {
	case 1:
		return []unix.Timespec{old, recent} // older than a day and than mtime
	case 2:
		return []unix.Timespec{recent, recent}
	default:
		return []unix.Timespec{future, old}
	}
}

func (s *side) probe(o op) []probe {
	var out []probe
	seen := map[uint64]bool{}
	add := func(label string, fd int) {
		p := probe{label: label, fd: fd}
		if unix.Fstat(fd, &p.before) != nil || seen[p.before.Ino] || s.mapped[p.before.Ino] || p.before.Mode&unix.S_IFMT == unix.S_IFIFO ||
			unix.UtimesNanoAt(fd, "", probeTimes(o.Probe), unix.AT_EMPTY_PATH) != nil ||
			unix.Fstat(fd, &p.before) != nil {
			unix.Close(fd)
			return
		}
		seen[p.before.Ino] = true
		out = append(out, p)
	}
	paths := []struct{ label, path string }{{"P", o.P}, {"Q", o.Q}}
	for _, x := range paths {
		if x.path == "" || strings.HasPrefix(x.path, "@") {
			continue
		}
		if fd, err := unix.Open(s.path(x.path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
			add(x.label, fd)
		}
		if fd, err := unix.Open(filepath.Dir(s.path(x.path)), unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			add(x.label+"/..", fd)
		}
	}
	if h := s.fds[o.S]; h != nil && definitions[o.Kind].fds {
		if fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", h.fd), unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			add("fd", fd)
		}
	}
	return out
}

func (s *side) changed(p probe) string {
	defer unix.Close(p.fd)
	var now unix.Stat_t
	if err := unix.Fstat(p.fd, &now); err != nil {
		return fmt.Sprintf(" [%s: %s]", p.label, errName(err))
	}
	if s.mapped[now.Ino] {
		return ""
	}
	what := []byte("---")
	if now.Atim != p.before.Atim {
		what[0] = 'a'
	}
	if now.Mtim != p.before.Mtim {
		what[1] = 'm'
	}
	if !fineTimes {
		what[2] = '?'
	} else if now.Ctim != p.before.Ctim || s.tmpfs && what[1] == 'm' {
		// tmpfs copies a directory's ctime from the entry's, which may come
		// from the coarse clock and so seem to stand still.
		what[2] = 'c'
	}
	for _, pair := range [][2]unix.Timespec{{p.before.Mtim, now.Mtim}, {p.before.Ctim, now.Ctim}} {
		if pair[0] != pair[1] && pair[1].Nano() < pair[0].Nano() && pair[1].Nano() > s.start.UnixNano() {
			what = append(what, " went back"...)
		}
	}
	return fmt.Sprintf(" [%s %s]", p.label, what)
}

// fineTimes says whether the reference stamps two changes within one tick of
// the clock differently (multigrain timestamps, Linux 6.13): only then can
// "ctime changed" be asked.
var fineTimes = kernelAtLeast(6, 13)

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return a > major || a == major && b >= minor
}

// sweep describes the whole tree and every open descriptor, one line each.
func (s *side) sweep() []string {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var out []string
	s.walk("", &out)
	for i, h := range s.fds {
		if h != nil {
			out = append(out, fmt.Sprintf("fd%d: %s", i, s.describeFD(h.fd)))
		}
	}
	return out
}

func (s *side) walk(rel string, out *[]string) {
	full := filepath.Join(s.top, rel)
	*out = append(*out, fmt.Sprintf("%q: %s", rel, s.describe(full)))
	fd, err := unix.Open(full, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	entries, err := readEntries(fd)
	unix.Close(fd)
	if err != nil {
		*out = append(*out, fmt.Sprintf("%q: readdir: %s", rel, errName(err)))
		return
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	for i, e := range entries {
		if i > 0 && e.name == entries[i-1].name {
			*out = append(*out, fmt.Sprintf("%q is listed twice", e.name))
		}
		var st unix.Stat_t
		if e.name == "." || e.name == ".." {
			continue
		}
		child := filepath.Join(rel, e.name)
		if err := unix.Lstat(filepath.Join(s.top, child), &st); err != nil || st.Ino != e.ino || uint8(st.Mode>>12) != e.kind {
			*out = append(*out, fmt.Sprintf("%q: readdir and lstat disagree: %v", child, err))
		}
		s.walk(child, out)
	}
}

// describe tells everything that lstat, the contents and the attributes tell.
func (s *side) describe(full string) string {
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return errName(err)
	}
	out := s.describeStat(&st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, 5000)
		n, err := unix.Readlink(full, buf)
		out += " -> " + string(buf[:max(n, 0)]) + " " + errName(err)
	case unix.S_IFREG:
		fd, err := unix.Open(full, unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
		if err != nil {
			return out + " open: " + errName(err)
		}
		out += s.contents(fd, &st)
		unix.Close(fd)
	}
	return out + s.xattrs(full)
}

func (s *side) describeFD(fd int) string {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errName(err)
	}
	out := s.describeStat(&st)
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		pos, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		out += " at " + ret(int(pos), err)
		if st.Nlink == 0 {
			if again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC, 0); err != nil {
				out += " reopen: " + errName(err)
			} else {
				out += s.contents(again, &st)
				unix.Close(again)
			}
		}
	}
	return out
}

func (s *side) describeStat(st *unix.Stat_t) string {
	out := fmt.Sprintf("mode %o nlink %d uid %d gid %d size %d rdev %x", st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Rdev)
	if s.mapped[st.Ino] || st.Mode&unix.S_IFMT == unix.S_IFIFO {
		// A fault in a hole allocates on tmpfs, and stamps at its own time. What
		// passes through a FIFO stamps it, but the kernel tells no FUSE server.
		return out
	}
	return out + fmt.Sprintf(" blocks %d mtime %s ctime %s", st.Blocks, s.when(st.Mtim), s.when(st.Ctim))
}

// when is the exact time, or "now" for one that the clock gave during the test.
func (s *side) when(ts unix.Timespec) string {
	t := time.Unix(ts.Unix())
	if t.After(s.start.Add(-5*time.Second)) && t.Before(time.Now().Add(time.Second)) {
		return "now"
	}
	return fmt.Sprintf("%d.%09d", ts.Sec, ts.Nsec)
}

// farOut is where offsets begin at which tmpfs's own answers to SEEK_DATA and
// SEEK_HOLE overflow.
const farOut = 1 << 62

// contents is the map of data and holes and a digest of each extent of data.
func (s *side) contents(fd int, st *unix.Stat_t) string {
	buf := s.scratch(64 << 10)
	if s.mapped[st.Ino] { // holes and zeroes are one, see describeStat
		if st.Size > 1<<20 {
			return ""
		}
		whole := make([]byte, st.Size)
		n, err := unix.Pread(fd, whole, 0)
		return " contents " + ret(n, err) + ":" + digest(whole)
	}
	var out strings.Builder
	for off := int64(0); ; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err != nil && st.Size > farOut {
			data = farOut
		} else if err != nil {
			fmt.Fprintf(&out, " %s", errName(err))
			break
		}
		if data >= farOut {
			tail := buf[:8192]
			n, err := unix.Pread(fd, tail, st.Size-int64(len(tail)))
			fmt.Fprintf(&out, " tail %s:%s", ret(n, err), digest(tail))
			break
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			fmt.Fprintf(&out, " %d:%s", data, errName(err))
			break
		}
		if hole <= data {
			fmt.Fprintf(&out, " data at %d and a hole at %d", data, hole)
			break
		}
		h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		for at := data; at < hole; {
			n, err := unix.Pread(fd, buf[:min(int64(len(buf)), hole-at)], at)
			if err != nil || n == 0 {
				fmt.Fprintf(&out, " read at %d: %s", at, ret(n, err))
				return out.String()
			}
			if s.spare[st.Ino] { // page by page, and zeroes are nothing
				for i := 0; i < n; i += 4096 {
					if page := buf[i:min(i+4096, n)]; len(bytes.Trim(page, "\x00")) > 0 {
						fmt.Fprintf(&out, " %d:%s", at+int64(i), digest(page))
					}
				}
			}
			h.Write(buf[:n])
			at += int64(n)
		}
		if !s.spare[st.Ino] {
			fmt.Fprintf(&out, " %d-%d:%x", data, hole, h.Sum32())
		}
		off = hole
	}
	return out.String()
}

func (s *side) xattrs(full string) string {
	buf := s.scratch(66000)
	n, err := unix.Llistxattr(full, buf)
	if err != nil {
		return " listxattr: " + errName(err)
	}
	var names []string
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	out := ""
	for _, name := range names {
		n, err := unix.Lgetxattr(full, name, buf)
		out += fmt.Sprintf(" %s=%s:%s", name, ret(n, err), digest(buf[:max(n, 0)]))
	}
	return out
}
