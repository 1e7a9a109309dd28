package lifecycle

import (
	"io/fs"
	"math"
	"os"
	"strings"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	unit := "/user.slice/user-1000.slice/user@1000.service/session.slice/tokenfs.service"
	for name, c := range map[string]struct {
		groups string
		files  map[string]string // below /sys/fs/cgroup; empty: they cannot be read
		want   memoryLimit
		err    string
	}{
		"none": {"0::" + unit, map[string]string{unit + "/memory.max": "max"}, memoryLimit{math.MaxInt64, ""}, ""},
		"the unit's": {"0::" + unit, map[string]string{
			unit + "/memory.max":     "402653184",
			"/user.slice/memory.max": "max",
		}, memoryLimit{402653184, unit}, ""},
		"a group's above": {"0::" + unit, map[string]string{
			unit + "/memory.max":                     "402653184",
			"/user.slice/user-1000.slice/memory.max": "100000",
			"/user.slice/memory.max":                 "200000",
		}, memoryLimit{100000, "/user.slice/user-1000.slice"}, ""},
		"where it gets slow": {"0::" + unit, map[string]string{
			unit + "/memory.max":      "402653184",
			"/user.slice/memory.high": "300000",
		}, memoryLimit{300000, "/user.slice"}, ""},
		"a container's, of which only the top is to be seen": {"0::/docker/0123", map[string]string{"/memory.max": "4096"}, memoryLimit{4096, "/"}, ""},
		"outside of what is to be seen":                      {"0::/../other", map[string]string{"/memory.max": "4096"}, memoryLimit{4096, "/"}, ""},
		"a colon in a name":                                  {"0::/a:b", map[string]string{"/a:b/memory.max": "1"}, memoryLimit{1, "/a:b"}, ""},
		"version 1": {"5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n", map[string]string{
			"/memory/docker/0123/memory.limit_in_bytes": "67108864",
			"/memory/memory.limit_in_bytes":             "9223372036854771712",
		}, memoryLimit{67108864, "/docker/0123"}, ""},
		"version 1, none":          {"4:memory:/\n", map[string]string{"/memory/memory.limit_in_bytes": "9223372036854771712"}, memoryLimit{math.MaxInt64, ""}, ""},
		"no groups":                {"", nil, memoryLimit{math.MaxInt64, ""}, ""},
		"no number":                {"0::/", map[string]string{"/memory.max": "much"}, memoryLimit{math.MaxInt64, ""}, `memory.max in /: strconv.ParseInt: parsing "much"`},
		"not to be read":           {"0::/", map[string]string{"/memory.max": ""}, memoryLimit{math.MaxInt64, ""}, "permission denied"},
		"another form of the list": {"0:/", nil, memoryLimit{math.MaxInt64, ""}, `"0:/"`},
	} {
		got, err := leastOf(c.groups, limitFiles, func(path string) ([]byte, error) {
			switch text, ok := c.files[strings.TrimPrefix(path, "/sys/fs/cgroup")]; {
			case !ok:
				return nil, fs.ErrNotExist
			case text == "":
				return nil, fs.ErrPermission
			default:
				return []byte(text + "\n"), nil
			}
		})
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want %q", name, err, c.err)
		}
	}
	if _, err := memoryLimitHere(); err != nil {
		t.Errorf("here: %v", err)
	}
}

func TestRoomWithinLimit(t *testing.T) {
	cost := func(size int64, inodes int) int64 {
		return perFilesystem + size/4096*perPage + int64(inodes)*perInode
	}
	for _, wanted := range []room{{DefaultSize, DefaultInodes}, {1 << 30, DefaultInodes}, {DefaultSize, 1 << 20}, {leastSize, 16}, {16 << 30, 1 << 20}} {
		if fits, most := wanted.within(math.MaxInt64); fits != wanted || most != 0 {
			t.Errorf("%+v without a limit: %+v, %d", wanted, fits, most)
		}
		for limit := int64(1 << 20); limit < 64<<30; limit = limit * 5 / 4 {
			fits, most := wanted.within(limit)
			switch {
			case fits.Size > wanted.Size || fits.Inodes > wanted.Inodes:
				t.Errorf("%+v beneath %d MiB: %+v is more", wanted, limit>>20, fits)
			case fits.Size < leastSize || fits.Inodes < min(wanted.Inodes, leastInodes) || most < fits.Size*5/4 || fits.Size%4096 != 0 || most%4096 != 0:
				t.Errorf("%+v beneath %d MiB: %+v, %d at most", wanted, limit>>20, fits, most)
			case fits.Size > leastSize && (cost(most, fits.Inodes) > limit || most-fits.Size < most/5):
				t.Errorf("%+v beneath %d MiB: %+v, and %d MiB with rewrites, does not fit", wanted, limit>>20, fits, most>>20)
			case fits.Size < wanted.Size && fits.Size > leastSize && cost(fits.Size*4/3, fits.Inodes) < limit-64<<10:
				t.Errorf("%+v beneath %d MiB: %+v, which is less than fits", wanted, limit>>20, fits)
			}
		}
	}
}

// What the unit allows is more than enough for the defaults.
func TestUnitHasRoom(t *testing.T) {
	unit, err := os.ReadFile("../packaging/systemd/tokenfs.service")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(unit), "\nMemoryMax=")
	limit, _, _ := strings.Cut(after, "\n")
	var mib int64
	for _, digit := range strings.TrimSuffix(limit, "M") {
		mib = 10*mib + int64(digit-'0')
	}
	wanted := room{2 * DefaultSize, DefaultInodes}
	if fits, _ := wanted.within(mib << 20); fits != wanted {
		t.Errorf("with MemoryMax=%s there is room for %+v only, want %+v", limit, fits, wanted)
	}
}

// FuzzMemoryLimit: whatever the files of the cgroups say, it is a limit or none,
// and what is held fits beneath it.
func FuzzMemoryLimit(f *testing.F) {
	f.Add("0::/user.slice/a\n4:memory:/docker/0123\n", "402653184", int64(DefaultSize), DefaultInodes)
	f.Add("0::/../..", "-1", int64(minimum), 16)
	f.Add("0:memory", "9223372036854775808", int64(16<<30), 1<<20)
	f.Add("0::a\n0::\n:memory:", "max\n", int64(0), 0)
	f.Fuzz(func(t *testing.T, groups, limit string, size int64, inodes int) {
		read := 0
		least, err := leastOf(groups, limitFiles, func(path string) ([]byte, error) {
			if read++; !strings.HasPrefix(path, "/sys/fs/cgroup/") {
				t.Fatalf("reads %q", path)
			}
			return []byte(limit), nil
		})
		if least.Bytes < 0 || err == nil && least.forStatus() < -1 {
			t.Fatalf("a limit of %d, %v", least.Bytes, err)
		}
		if read > 3*len(groups)+3 {
			t.Fatalf("%d files are read for %q", read, groups)
		}
		if size < minimum || size > 16<<30 || inodes < 16 || inodes > 1<<20 {
			return // not to be had
		}
		wanted := room{size, inodes}
		if fits, most := wanted.within(least.Bytes); fits.Size > size || fits.Inodes > inodes || fits.Size < leastSize || fits.Inodes < min(inodes, leastInodes) || most != 0 && most < fits.Size {
			t.Fatalf("%+v within %d is %+v, %d", wanted, least.Bytes, fits, most)
		}
	})
}

// minimum is the smallest size that a setting allows.
const minimum = 1 << 20
