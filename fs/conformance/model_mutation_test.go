package conformance

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mutations are bugs as a filesystem might have them. Each wraps one operation.
var mutations = map[string]func(s *side, o op, run func(op) string) string{
	"a write of more than a block loses its last byte": func(s *side, o op, run func(op) string) string {
		out := run(o)
		if o.Kind == "pwrite" && o.Len > 4096 && out == fmt.Sprint(o.Len) && o.Off >= 0 {
			unix.Pwrite(s.fd(o.S), []byte{0}, o.Off+o.Len-1)
		}
		return out
	},
	"a truncated tail comes back": func(s *side, o op, run func(op) string) string {
		if o.Kind != "ftruncate" || o.Off <= 0 || o.Off > 1<<20 {
			return run(o)
		}
		out := run(o)
		if out == "ok" {
			unix.Ftruncate(s.fd(o.S), o.Off+1)
			unix.Pwrite(s.fd(o.S), []byte{'x'}, o.Off)
		}
		return out
	},
	"O_EXCL is ignored": func(s *side, o op, run func(op) string) string {
		if o.Kind == "open" {
			o.Flags &^= unix.O_EXCL
		}
		return run(o)
	},
	"RENAME_NOREPLACE is ignored": func(s *side, o op, run func(op) string) string {
		if o.Kind == "rename" && o.Flags == unix.RENAME_NOREPLACE {
			o.Flags = 0
		}
		return run(o)
	},
	"a write does not stamp mtime": func(s *side, o op, run func(op) string) string {
		var st unix.Stat_t
		if o.Kind != "write" || unix.Fstat(s.fd(o.S), &st) != nil {
			return run(o)
		}
		defer unix.UtimesNanoAt(s.fd(o.S), "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
		return run(o)
	},
	"O_NOATIME is ignored": func(s *side, o op, run func(op) string) string {
		if o.Kind == "open" {
			o.Flags &^= unix.O_NOATIME
		}
		return run(o)
	},
	"a hole is punched a block short": func(s *side, o op, run func(op) string) string {
		if o.Kind == "fallocate" && o.Flags&unix.FALLOC_FL_PUNCH_HOLE != 0 && o.Len > 4096 {
			o.Len -= 4096
		}
		return run(o)
	},
	"an unlinked file cannot be opened again": func(s *side, o op, run func(op) string) string {
		var st unix.Stat_t
		if o.Kind == "open" && len(o.P) == 2 && o.P[0] == '@' && unix.Stat(s.path(o.P), &st) == nil && st.Nlink == 0 {
			return "ENOENT"
		}
		return run(o)
	},
	"setgid of a directory is not inherited": func(s *side, o op, run func(op) string) string {
		out := run(o)
		if o.Kind == "mkdir" && out == "ok" {
			unix.Chmod(s.path(o.P), o.Mode&^0o2000&0o755)
		}
		return out
	},
	"an attribute of 64 KiB loses a byte": func(s *side, o op, run func(op) string) string {
		if o.Kind == "setxattr" && o.Len == 65536 {
			o.Len--
		}
		return run(o)
	},
	"the last entry of a piece is listed again": func(s *side, o op, run func(op) string) string {
		out := run(o)
		if h := s.fds[o.S]; o.Kind == "getdents" && out == "ok" && h != nil && h.stream.whole {
			if c := h.stream.cookies; len(c) > 1 {
				unix.Seek(h.fd, c[len(c)-2], unix.SEEK_SET)
			}
		}
		return out
	},
	"a private mapping writes through": func(s *side, o op, run func(op) string) string {
		if o.Kind == "mmap" && o.Flags == unix.MAP_PRIVATE {
			o.Flags = unix.MAP_SHARED
		}
		return run(o)
	},
}

func (s *side) mutate(o op, run func(op) string) string {
	if m := mutations[s.mutation]; m != nil {
		return m(s, o, run)
	}
	return run(o)
}
