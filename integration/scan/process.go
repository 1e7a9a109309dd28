package scan

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Region is one mapping of a process.
type Region struct {
	Start, End uint64
	Perms      string // as in /proc/PID/maps, "rw-p"
	Offset     uint64 // in the mapped file
	Inode      uint64
	Name       string // path, "[stack]", "/memfd:NAME (deleted)" or nothing
	Locked     bool   // mlocked: never swapped
	NoDump     bool   // left out of core dumps
}

func (r Region) String() string {
	name := r.Name
	if name == "" {
		name = "anonymous memory"
	}
	if r.Locked {
		name += ", locked"
	}
	return fmt.Sprintf("%x-%x %s %s", r.Start, r.End, r.Perms, name)
}

// Hit is a secret found in a region.
type Hit struct {
	Found
	Region Region
}

// Unread is a stretch of memory that could not be read, and why.
type Unread struct {
	Start, End uint64
	Region     Region
	Err        error
}

// Report is what a scan saw.
type Report struct {
	Hits    []Hit
	Unread  []Unread
	Bytes   int64 // read and searched
	Regions []Region
}

// UnreadBytes is how much could not be read.
func (r *Report) UnreadBytes() (n int64) {
	for _, u := range r.Unread {
		n += int64(u.End - u.Start)
	}
	return n
}

// Process searches everything that can be read of the memory of a process: its
// mappings, and the memfds it holds open where they are not mapped. Stop it
// first for a picture of one instant.
//
// Pages that were never touched are passed over, not read: reading would make
// some of them, and there is nothing in them.
func Process(pid int, sets ...*Set) (*Report, error) {
	regions, err := Regions(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	s := &scanner{pid: pid, mem: mem, sets: sets, rep: &Report{Regions: regions}}
	if s.pagemap, err = os.Open(fmt.Sprintf("/proc/%d/pagemap", pid)); err == nil {
		defer s.pagemap.Close()
	}
	for _, r := range regions {
		s.region(r)
	}
	if err := s.unmapped(regions); err != nil {
		return nil, err
	}
	return s.rep, nil
}

// File searches what a file holds.
func File(f *os.File, sets ...*Set) (*Report, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &scanner{sets: sets, rep: &Report{}}
	r := Region{End: uint64(st.Size()), Name: f.Name()}
	s.rep.Regions = []Region{r}
	return s.rep, s.file(f, r)
}

// Regions lists the mappings of a process.
func Regions(pid int) ([]Region, error) {
	path := fmt.Sprintf("/proc/%d/smaps", pid)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rs []Region
	for line := range strings.Lines(string(b)) {
		if f, ok := strings.CutPrefix(line, "VmFlags:"); ok && len(rs) > 0 {
			flags := strings.Fields(f)
			r := &rs[len(rs)-1]
			r.Locked, r.NoDump = slices.Contains(flags, "lo"), slices.Contains(flags, "dd")
			continue
		}
		var r Region
		var dev string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d", &r.Start, &r.End, &r.Perms, &r.Offset, &dev, &r.Inode); n == 6 {
			if f := strings.Fields(line); len(f) > 5 {
				r.Name = strings.Join(f[5:], " ")
			}
			rs = append(rs, r)
		}
	}
	if len(rs) == 0 {
		return nil, fmt.Errorf("%s lists no memory: the process has ended", path)
	}
	return rs, nil
}

type scanner struct {
	pid     int
	mem     *os.File
	pagemap *os.File // nil where it cannot be read
	sets    []*Set
	rep     *Report
}

func (s *scanner) region(r Region) {
	switch {
	case r.Perms[3] == 's':
		// Through the file, not the mapping: reading a hole through a mapping
		// of a memfd fills it.
		f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", s.pid, r.Start, r.End))
		if err == nil {
			defer f.Close()
			if s.file(f, r) == nil {
				return
			}
		}
	case r.Inode == 0:
		if runs, err := s.touched(r); err == nil {
			for _, run := range runs {
				s.read(run[0], run[1], r)
			}
			return
		}
	}
	if r.Perms[0] == 'r' {
		s.read(r.Start, r.End, r)
	}
}

// touched lists the stretches of r whose pages exist, in memory or in swap.
func (s *scanner) touched(r Region) ([][2]uint64, error) {
	if s.pagemap == nil || int64(r.Start) < 0 {
		return nil, errors.ErrUnsupported
	}
	const present = 3 << 6 // bits 62 (swapped) and 63 (in memory) of an entry
	page := uint64(os.Getpagesize())
	var runs [][2]uint64
	buf := make([]byte, 1<<16)
	for at := r.Start; at < r.End; {
		n := min(uint64(len(buf)), (r.End-at)/page*8)
		if _, err := s.pagemap.ReadAt(buf[:n], int64(at/page*8)); err != nil {
			return nil, err
		}
		for i := uint64(7); i < n; i += 8 {
			if buf[i]&present != 0 {
				if k := len(runs) - 1; k >= 0 && runs[k][1] == at {
					runs[k][1] = at + page
				} else {
					runs = append(runs, [2]uint64{at, at + page})
				}
			}
			at += page
		}
	}
	return runs, nil
}

// read searches [start, end) of r through /proc/PID/mem.
func (s *scanner) read(start, end uint64, r Region) {
	page := uint64(os.Getpagesize())
	w := s.window(r)
	for at := start; at < end; {
		n, err := unix.Pread(int(s.mem.Fd()), w.room(end-at), int64(at))
		if n &^= 7; n > 0 {
			w.add(at, n)
			at += uint64(n)
			continue
		}
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		next := min(end, (at/page+1)*page)
		s.unread(at, next, r, err)
		at = next
	}
}

func (s *scanner) unread(start, end uint64, r Region, err error) {
	if k := len(s.rep.Unread) - 1; k >= 0 && s.rep.Unread[k].End == start && s.rep.Unread[k].Err == err {
		s.rep.Unread[k].End = end
		return
	}
	s.rep.Unread = append(s.rep.Unread, Unread{start, end, r, err})
}

// file searches the part of f that r maps, its holes left out.
func (s *scanner) file(f *os.File, r Region) error {
	fd := int(f.Fd())
	w := s.window(r)
	end := r.Offset + (r.End - r.Start)
	for at := r.Offset; at < end; {
		data, err := unix.Seek(fd, int64(at), unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: looking for data: %w", f.Name(), err)
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("%s: looking for holes: %w", f.Name(), err)
		}
		for at = uint64(data); at < min(end, uint64(hole)); {
			n, err := unix.Pread(fd, w.room(min(end, uint64(hole))-at), int64(at))
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return fmt.Errorf("%s: reading at %d: %w", f.Name(), at, err)
			}
			if n > 8 {
				n &^= 7 // what follows must begin at a multiple of 8 too
			}
			w.add(r.Start+at-r.Offset, n)
			at += uint64(n)
		}
	}
	return nil
}

// unmapped searches the memfds that a process holds open, where no mapping of
// it covers them.
func (s *scanner) unmapped(regions []Region) error {
	dir := fmt.Sprintf("/proc/%d/fd", s.pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for _, e := range fds {
		path := filepath.Join(dir, e.Name())
		name, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(name, "/memfd:") {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || seen[st.Ino] {
			continue
		}
		seen[st.Ino] = true
		f, err := os.Open(path)
		if err != nil {
			r := Region{End: uint64(st.Size), Inode: st.Ino, Name: name}
			s.unread(0, r.End, r, err)
			continue
		}
		at := uint64(0)
		for _, m := range covering(regions, st.Ino) {
			err = errors.Join(err, s.gap(f, at, m.Offset, name))
			at = max(at, m.Offset+m.End-m.Start)
		}
		err = errors.Join(err, s.gap(f, at, uint64(st.Size), name))
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) gap(f *os.File, from, to uint64, name string) error {
	if from >= to {
		return nil
	}
	return s.file(f, Region{Start: from, End: to, Offset: from, Perms: "----", Name: name + ", not mapped"})
}

func covering(regions []Region, inode uint64) (ms []Region) {
	for _, r := range regions {
		if r.Inode == inode && strings.HasPrefix(r.Name, "/memfd:") {
			ms = append(ms, r)
		}
	}
	slices.SortFunc(ms, func(a, b Region) int { return int(int64(a.Offset - b.Offset)) })
	return ms
}

// window passes adjoining pieces of memory to the sets, each with the end of
// the one before it.
type window struct {
	s    *scanner
	r    Region
	buf  []byte
	next uint64 // where the next piece must begin to adjoin
	kept int    // bytes of the last piece in front of it
}

func (s *scanner) window(r Region) *window {
	return &window{s: s, r: r, buf: make([]byte, margin+1<<20), next: ^uint64(0)}
}

// room is where to read the next piece to, of at most n bytes.
func (w *window) room(n uint64) []byte {
	return w.buf[margin : margin+min(n, uint64(len(w.buf)-margin))]
}

// add searches the n bytes read into room, from address at.
func (w *window) add(at uint64, n int) {
	if w.next != at {
		w.kept = 0
	}
	b := w.buf[margin-w.kept : margin+n]
	for _, set := range w.s.sets {
		set.Search(b, at-uint64(w.kept), func(f Found) {
			if f.Addr+uint64(f.Len) > at { // else it was seen with the last piece
				w.s.rep.Hits = append(w.s.rep.Hits, Hit{f, w.r})
			}
		})
	}
	w.s.rep.Bytes += int64(n)
	w.kept = min(margin, n) &^ 7
	copy(w.buf[margin-w.kept:margin], w.buf[margin+n-w.kept:margin+n])
	w.next = at + uint64(n)
}
