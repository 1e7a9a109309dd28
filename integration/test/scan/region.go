package scan

import (
	"cmp"
	"fmt"
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
			// memfd_secret(2) is never swapped; Linux 6.1 does not say so here.
			r.Locked = slices.Contains(flags, "lo") || strings.HasPrefix(r.Name, "/secretmem")
			r.NoDump = slices.Contains(flags, "dd")
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

// A Memfd is a memory file that a process holds open.
type Memfd struct {
	Path  string // to open it, /proc/PID/fd/N
	Name  string // "/memfd:NAME (deleted)"
	Inode uint64
	Size  int64
}

// Memfds lists those that a process holds open, each once.
func Memfds(pid int) ([]Memfd, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ms []Memfd
	for _, e := range fds {
		m := Memfd{Path: filepath.Join(dir, e.Name())}
		var st unix.Stat_t
		if m.Name, err = os.Readlink(m.Path); err != nil || !strings.HasPrefix(m.Name, "/memfd:") || unix.Stat(m.Path, &st) != nil {
			continue
		}
		m.Inode, m.Size = st.Ino, st.Size
		if !slices.ContainsFunc(ms, func(o Memfd) bool { return o.Inode == m.Inode }) {
			ms = append(ms, m)
		}
	}
	return ms, nil
}

// covering lists the regions that map a memfd, in its order.
func covering(regions []Region, inode uint64) (ms []Region) {
	for _, r := range regions {
		if r.Inode == inode && r.Perms[3] == 's' {
			ms = append(ms, r)
		}
	}
	slices.SortFunc(ms, func(a, b Region) int { return cmp.Compare(a.Offset, b.Offset) })
	return ms
}
