package mount

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// maxRead bounds a READ, and with it the size of a request slot.
const maxRead = "max_read=131072"

// Options is what both ways of mounting need, from one list.
type Options struct {
	Flags uintptr  // for mount(2)
	Names []string // for fusermount3, and as shown in status
	all   bool     // allow_other

	Source string // what the mount table shows as mounted
}

// ordinary are the options a user may pass with -o, with the flag each sets or
// clears. fusermount3 knows the same ones.
var ordinary = map[string]struct{ set, clear uintptr }{
	"rw":      {clear: unix.MS_RDONLY},
	"ro":      {set: unix.MS_RDONLY},
	"exec":    {clear: unix.MS_NOEXEC},
	"noexec":  {set: unix.MS_NOEXEC},
	"atime":   {clear: unix.MS_NOATIME},
	"noatime": {set: unix.MS_NOATIME},
	"async":   {clear: unix.MS_SYNCHRONOUS},
	"sync":    {set: unix.MS_SYNCHRONOUS},
	"dirsync": {set: unix.MS_DIRSYNC},
}

// CheckOptions says whether options can be mounted with by this user.
func CheckOptions(options []string) error {
	_, err := ParseOptions(options, os.Geteuid() == 0)
	return err
}

// ParseOptions takes -o values, each of which may be a comma list.
func ParseOptions(options []string, root bool) (Options, error) {
	o := Options{Flags: unix.MS_NOSUID | unix.MS_NODEV, Source: "tokenfs"}
	for name := range strings.SplitSeq(strings.Join(options, ","), ",") {
		switch name = strings.TrimSpace(name); name {
		case "", "nosuid", "nodev", "default_permissions":
			continue // always on
		case "suid", "dev":
			return o, fault.Errorf(fault.BadRequest, "mount option %s: refused, tokenfs is always mounted no%s", name, name)
		case "allow_other":
			if !root {
				return o, fault.Errorf(fault.BadRequest, "mount option allow_other: refused, it would open the files to other users; only root may do that")
			}
			o.all = true
		case "allow_root":
			if !root {
				return o, fault.Errorf(fault.BadRequest, "mount option allow_root: refused, it would open the files to root")
			}
			continue // the owner is root
		default:
			flag, ok := ordinary[name]
			if !ok {
				return o, fault.Errorf(fault.BadRequest, "mount option %q: unknown; there are ro, rw, noexec, exec, noatime, atime, sync, async, dirsync and, for root, allow_other", name)
			}
			o.Flags = o.Flags&^flag.clear | flag.set
		}
		o.Names = append(o.Names, name)
	}
	return o, nil
}
