package scan

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

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
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	regions, err := Regions(pid)
	if err != nil {
		return nil, err
	}
	s := &scanner{pid: pid, mem: mem, sets: sets, rep: &Report{Regions: regions}}
	if s.pagemap, err = os.Open(fmt.Sprintf("/proc/%d/pagemap", pid)); err == nil {
		defer s.pagemap.Close()
	}
	if s.memfds, err = Memfds(pid); err != nil {
		return nil, err
	}
	for _, r := range regions {
		s.region(r)
	}
	for _, m := range s.memfds {
		if err := s.unmapped(m); err != nil {
			return nil, err
		}
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

type scanner struct {
	pid     int
	mem     *os.File
	pagemap *os.File // nil where it cannot be read
	memfds  []Memfd
	sets    []*Set
	rep     *Report
}

func (s *scanner) region(r Region) {
	switch {
	case r.Perms[3] == 's':
		// Through the file, not the mapping: reading a hole through a mapping
		// of a memfd fills it.
		if f := s.open(r); f != nil {
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

// open opens what r maps: by the mapping, which takes a privilege, else by a
// descriptor for the same memfd.
func (s *scanner) open(r Region) *os.File {
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", s.pid, r.Start, r.End))
	if err == nil {
		return f
	}
	for _, m := range s.memfds {
		if m.Inode == r.Inode {
			if f, err := os.Open(m.Path); err == nil {
				return f
			}
		}
	}
	return nil
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

// unmapped searches a memfd where no mapping covers it.
func (s *scanner) unmapped(m Memfd) error {
	f, err := os.Open(m.Path)
	if err != nil {
		s.unread(0, uint64(m.Size), Region{End: uint64(m.Size), Inode: m.Inode, Name: m.Name}, err)
		return nil
	}
	defer f.Close()
	at := uint64(0)
	for _, r := range covering(s.rep.Regions, m.Inode) {
		if err := s.gap(f, at, r.Offset, m.Name); err != nil {
			return err
		}
		at = max(at, r.Offset+r.End-r.Start)
	}
	return s.gap(f, at, uint64(m.Size), m.Name)
}

func (s *scanner) gap(f *os.File, from, to uint64, name string) error {
	if from >= to {
		return nil
	}
	return s.file(f, Region{Start: from, End: to, Offset: from, Perms: "----", Name: name + ", not mapped"})
}
