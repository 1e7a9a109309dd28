package mount

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/fault/faulttest"
)

func TestMountOptions(t *testing.T) {
	const always = unix.MS_NOSUID | unix.MS_NODEV
	for _, c := range []struct {
		in    []string
		root  bool
		flags uintptr
		names []string
		all   bool
	}{
		{nil, false, always, nil, false},
		{[]string{""}, false, always, nil, false},
		{[]string{"nosuid,nodev,default_permissions"}, false, always, nil, false},
		{[]string{"ro, noexec", "noatime"}, false, always | unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOATIME, []string{"ro", "noexec", "noatime"}, false},
		{[]string{"ro,rw"}, false, always, []string{"ro", "rw"}, false}, // the last one counts
		{[]string{"allow_other"}, true, always, []string{"allow_other"}, true},
		{[]string{"allow_root"}, true, always, nil, false},
	} {
		o, err := ParseOptions(c.in, c.root)
		if err != nil || o.Flags != c.flags || !slices.Equal(o.Names, c.names) || o.all != c.all {
			t.Errorf("%q: %+v, %v", c.in, o, err)
		}
	}
	for name, c := range map[string]struct {
		root bool
		word string
	}{
		"suid":           {true, "refused"},
		"dev":            {true, "refused"},
		"allow_other":    {false, "only root"},
		"allow_root":     {false, "refused"},
		"fsname=x":       {true, "unknown"},
		"user_id=0":      {true, "unknown"},
		"fd=3":           {true, "unknown"},
		"rootmode=40777": {true, "unknown"},
		"noexce":         {true, "unknown"},
	} {
		_, err := ParseOptions([]string{"noexec," + name}, c.root)
		t.Run(name, func(t *testing.T) { faulttest.Want(t, err, fault.BadRequest, name, c.word) })
	}
}
