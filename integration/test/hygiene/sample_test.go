package hygiene

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tokenfs/integration/test/scan"
)

// What a sample shows, told apart by where things lie.
type sample struct {
	leaked  map[string]int // what, and where it must not be
	allowed map[string]int // "keys in keys", "content in slots"
	bytes   int64
}

// look stops the daemon and searches it.
func (s *subject) look(t *testing.T, r revealed, known *scan.Set) sample {
	t.Helper()
	s.stop(t)
	defer s.goOn(t)
	now := new(scan.Set)
	sets := []*scan.Set{s.content, known}
	if s.keysNow(t, r, now) {
		sets = append(sets, now)
	}
	places := s.places(t, r)
	smp := sample{leaked: map[string]int{}, allowed: map[string]int{}}
	for i, pid := range s.pids {
		rep, err := scan.Process(pid, sets...)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range rep.Unread {
			if !kernels(u.Region) && !strings.HasPrefix(u.Region.Name, "/secretmem") {
				t.Fatalf("unread: %v: %v", u.Region, u.Err)
			}
		}
		smp.add(rep, places, i+1, len(s.pids))
	}
	return smp
}

// places tells the memory that keys and requests may be in by its inode, which
// is the same in all processes.
func (s *subject) places(t *testing.T, r revealed) map[uint64]string {
	t.Helper()
	regions, err := scan.Regions(s.server())
	if err != nil {
		t.Fatal(err)
	}
	places := map[uint64]string{}
	for _, span := range r.Regions {
		i := slices.IndexFunc(regions, func(r scan.Region) bool { return r.Start <= span.Start && span.End <= r.End })
		if i < 0 || regions[i].Inode == 0 || !regions[i].Locked || !regions[i].NoDump {
			t.Fatalf("the %s are in no memory file that is locked and kept out of core dumps", span.What)
		}
		places[regions[i].Inode] = span.What
	}
	return places
}

// kernels reports whether a region is the kernel's own, the same in every process.
func kernels(r scan.Region) bool {
	return r.Name == "[vvar]" || r.Name == "[vvar_vclock]" || r.Name == "[vsyscall]"
}

func (smp *sample) add(rep *scan.Report, places map[uint64]string, process, processes int) {
	smp.bytes += rep.Bytes
	for _, h := range rep.Hits {
		if n := 0; strings.HasPrefix(h.Label, attribute) {
			// A run in the name alone is no content.
			fmt.Sscanf(h.Label, attribute+" of %d bytes", &n)
			name := len("user.") + 2*12 + 1
			if h.Offset+h.Len <= name || h.Offset < name && h.Offset+h.Len-name < min(n, scan.Run) {
				continue
			}
		}
		what := "content"
		if strings.HasPrefix(h.Label, "key") {
			what = "key"
		}
		switch place := places[h.Region.Inode]; {
		case what == "key" && place == "keys", what == "content" && place == "slots":
			smp.allowed[what+" in "+place]++
		case place != "":
			smp.leaked[what+" in "+place]++
		default:
			region := h.Region.Name
			if region == "" {
				region = "anonymous memory"
			}
			smp.leaked[fmt.Sprintf("%s in %s (%s), process %d of %d", h.Label, region, h.Region.Perms, process, processes)]++
		}
	}
}

// A tally sums samples up.
type tally struct {
	n, dirty, dirtyKeys, dirtyContent int
	leaked, allowed                   map[string]int
	bytes                             int64
}

func (y *tally) add(s sample) {
	if y.leaked == nil {
		y.leaked, y.allowed = map[string]int{}, map[string]int{}
	}
	y.n++
	y.bytes += s.bytes
	keys, content := false, false
	for what, n := range s.leaked {
		y.leaked[what] += n
		if strings.HasPrefix(what, "key") {
			keys = true
		} else {
			content = true
		}
	}
	for what, n := range s.allowed {
		y.allowed[what] += n
	}
	if keys || content {
		y.dirty++
	}
	if keys {
		y.dirtyKeys++
	}
	if content {
		y.dirtyContent++
	}
}

func (y *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d samples dirty (keys in %d, contents in %d), %d MiB read in each",
		y.dirty, y.n, y.dirtyKeys, y.dirtyContent, y.bytes/int64(max(y.n, 1))>>20)
	for _, list := range []struct {
		title string
		m     map[string]int
	}{{"where they may be", y.allowed}, {"where they must not be", y.leaked}} {
		var lines []string
		for what, n := range list.m {
			lines = append(lines, fmt.Sprintf("%6d times %s", n, what))
		}
		slices.SortFunc(lines, func(a, b string) int { return strings.Compare(b, a) })
		if len(lines) > 20 {
			lines = append(lines[:20], fmt.Sprintf("and %d more", len(lines)-20))
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n  found %s:\n    %s", list.title, strings.Join(lines, "\n    "))
		}
	}
	return b.String()
}
