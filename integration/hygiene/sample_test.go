package hygiene

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tokenfs/integration/scan"
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
	if err := scan.Stop(s.pid); err != nil {
		t.Fatal(err)
	}
	defer scan.Continue(s.pid)
	now := new(scan.Set)
	sets := []*scan.Set{s.content, known}
	if s.keysNow(t, r, now) {
		sets = append(sets, now)
	}
	rep, err := scan.Process(s.pid, sets...)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range rep.Unread {
		if !kernels(u.Region) && !strings.HasPrefix(u.Region.Name, "/secretmem") {
			t.Fatalf("unread: %v: %v", u.Region, u.Err)
		}
	}
	return classify(rep, r)
}

// kernels reports whether a region is the kernel's own, the same in every process.
func kernels(r scan.Region) bool {
	return r.Name == "[vvar]" || r.Name == "[vvar_vclock]" || r.Name == "[vsyscall]"
}

func classify(rep *scan.Report, r revealed) sample {
	smp := sample{map[string]int{}, map[string]int{}, rep.Bytes}
	for _, h := range rep.Hits {
		if n := 0; strings.HasPrefix(h.Label, attribute) {
			// A run in the name alone is no content.
			fmt.Sscanf(h.Label, attribute+" of %d bytes", &n)
			name := len("user.") + 2*12 + 1
			if h.Offset+h.Len <= name || h.Offset < name && h.Offset+h.Len-name < min(n, scan.Run) {
				continue
			}
		}
		in := slices.IndexFunc(r.Regions, func(s span) bool { return s.Start <= h.Addr && h.Addr < s.End })
		switch {
		case in < 0:
			region := h.Region.Name
			if region == "" {
				region = "anonymous memory"
			}
			smp.leaked[fmt.Sprintf("%s in %s (%s)", h.Label, region, h.Region.Perms)]++
		case h.Label == "key":
			smp.allowed["key in "+r.Regions[in].What]++
			if r.Regions[in].What != "keys" {
				smp.leaked["key in the slots"]++
			}
		default:
			smp.allowed["content in "+r.Regions[in].What]++
			if r.Regions[in].What != "slots" {
				smp.leaked["content in the key region"]++
			}
		}
	}
	return smp
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
