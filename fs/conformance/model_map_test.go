package conformance

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Mappings. Both kinds, through any descriptor that is still open or not: the
// mapping outlives it.

func runMmap(s *side, o op) string {
	s.unmap(o.M)
	var st unix.Stat_t
	if unix.Fstat(s.fd(o.S), &st) == nil {
		s.mapped[st.Ino] = true
	}
	own, err := unix.FcntlInt(uintptr(s.fd(o.S)), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return errName(err)
	}
	data, err := unix.Mmap(own, o.Off, int(o.Len), int(o.Mode), o.Flags)
	if err != nil {
		unix.Close(own)
		return errName(err)
	}
	s.maps[o.M] = &mapping{data: data, fd: own, off: o.Off, shared: o.Flags&unix.MAP_SHARED != 0, write: o.Mode&unix.PROT_WRITE != 0}
	return "ok"
}

func runMread(s *side, o op) string {
	m := s.maps[o.M]
	if m == nil || o.Off >= int64(len(m.data)) {
		return "nothing there"
	}
	b := m.data[o.Off:min(o.Off+o.Len, int64(len(m.data)))]
	return digest(b)
}

// runMwrite keeps away from what lies behind the end of the file in its last
// page: what becomes of that when the file grows is anybody's guess, on tmpfs too.
func runMwrite(s *side, o op) string {
	m := s.maps[o.M]
	var st unix.Stat_t
	if m == nil || !m.write || unix.Fstat(m.fd, &st) != nil {
		return "nothing there"
	}
	end := min(o.Off+o.Len, int64(len(m.data)), st.Size-m.off)
	if end <= o.Off {
		return "behind the end"
	}
	return fmt.Sprint(copy(m.data[o.Off:end], payload(o.Seed, o.Len)))
}

func runMsync(s *side, o op) string {
	m := s.maps[o.M]
	if m == nil {
		return "nothing there"
	}
	return errName(unix.Msync(m.data, o.Flags))
}
