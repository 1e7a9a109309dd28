package mount

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

const sampleTable = `24 30 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
35 30 0:31 / /run/user/1000 rw - tmpfs tmpfs rw,size=10k,mode=700
36 35 0:44 / /run/user/1000/tokenfs rw,nosuid,nodev - fuse.tokenfs tokenfs rw,user_id=1000,group_id=1000,default_permissions
37 36 0:45 / /run/user/1000/tokenfs rw,nosuid,nodev - fuse.tokenfs tokenfs rw,user_id=0,group_id=0
38 30 0:46 /sub /mnt/with\040blank\134 rw - ext4 /dev/a\040b rw
39 37 0:47 / /run/user/1000/tokenfs/inner rw - tmpfs tmpfs rw
`

func TestMountTable(t *testing.T) {
	table, err := parseMountinfo(strings.NewReader(sampleTable))
	if err != nil {
		t.Fatal(err)
	}
	if len(table) != 6 {
		t.Fatalf("%d entries", len(table))
	}
	if e := table[4]; e.Point != `/mnt/with blank\` || e.Root != "/sub" || e.Type != "ext4" || e.ID != 38 || e.Parent != 30 {
		t.Errorf("parsed %+v", e)
	}
	top, found := Top(table, "/run/user/1000/tokenfs")
	if !found || top.ID != 37 {
		t.Errorf("on top is %+v", top)
	}
	// The order of the table must not matter.
	table[2], table[3] = table[3], table[2]
	if top, _ = Top(table, "/run/user/1000/tokenfs"); top.ID != 37 {
		t.Errorf("on top is %+v", top)
	}
	if uid, ok := top.Owner(); !ok || uid != 0 {
		t.Errorf("owner %d, %v", uid, ok)
	}
	if uid, ok := table[3].Owner(); !ok || uid != 1000 {
		t.Errorf("owner %d, %v", uid, ok)
	}
	if _, ok := table[0].Owner(); ok {
		t.Error("sysfs has an owner")
	}
	if _, found := Top(table, "/nowhere"); found {
		t.Error("found a mount where none is")
	}
	for _, bad := range []string{"garbage\n", "1 2 3 - x\n", "x 30 0:22 / /sys rw - sysfs sysfs rw\n"} {
		if _, err := parseMountinfo(strings.NewReader(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestMountTableOfThisMachine(t *testing.T) {
	e, found, err := At("/proc")
	if err != nil || !found || e.Type != "proc" {
		t.Errorf("at /proc: %+v, %v, %v", e, found, err)
	}
	if _, err := os.Stat("/proc/self/mountinfo"); err != nil {
		t.Fatal(err)
	}
	if Probe("/proc") != Alive {
		t.Error("/proc is not alive")
	}
}

// FuzzMountinfo: whatever the table says, what is on top of a path is an entry
// of that path, and no other entry is mounted on it.
func FuzzMountinfo(f *testing.F) {
	f.Add(sampleTable, "/run/user/1000/tokenfs")
	f.Add("1 1 0:1 / / rw - x x user_id=-1\n", "/")
	f.Add("1 2 0:1 / / rw - x x rw\n2 1 0:1 / / rw - x x rw\n", "/")
	f.Add(`1 1 0:1 \1 \12\999 rw - x \`+" rw\n", "/")
	f.Fuzz(func(t *testing.T, text, path string) {
		table, err := parseMountinfo(strings.NewReader(text))
		if err != nil {
			if table != nil {
				t.Fatalf("%d entries with %v", len(table), err)
			}
			return
		}
		if n := strings.Count(text, "\n"); len(table) > n+1 {
			t.Fatalf("%d entries in %d lines", len(table), n)
		}
		top, found := Top(table, path)
		if found && top.Point != path {
			t.Fatalf("on top of %q is %+v", path, top)
		}
		for _, e := range table {
			if found && e.Point == path && e.Parent == top.ID {
				t.Fatalf("%+v is mounted on %+v", e, top)
			}
			e.Ours()
			if escaped := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(e.Point); Unescape(escaped) != e.Point {
				t.Fatalf("%q is read as %q", escaped, Unescape(escaped))
			}
		}
	})
}
