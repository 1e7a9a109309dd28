package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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
