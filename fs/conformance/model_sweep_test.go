package conformance

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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
