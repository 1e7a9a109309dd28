package lifecycle

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRead bounds a READ, and with it the size of a request slot.
const maxRead = "max_read=131072"

// mountOptions is what both ways of mounting need, from one list.
type mountOptions struct {
	flags uintptr  // for mount(2)
	names []string // for fusermount3, and as shown in status
	all   bool     // allow_other

	source string // what the mount table shows as mounted
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

// CheckMountOptions says whether options can be mounted with by this user.
func CheckMountOptions(options []string) error {
	_, err := parseMountOptions(options, os.Geteuid() == 0)
	return err
}

// parseMountOptions takes -o values, each of which may be a comma list.
func parseMountOptions(options []string, root bool) (mountOptions, error) {
	o := mountOptions{flags: unix.MS_NOSUID | unix.MS_NODEV, source: "tokenfs"}
	for name := range strings.SplitSeq(strings.Join(options, ","), ",") {
		switch name = strings.TrimSpace(name); name {
		case "", "nosuid", "nodev", "default_permissions":
			continue // always on
		case "suid", "dev":
			return o, faultf(BadRequest, "mount option %s: refused, tokenfs is always mounted no%s", name, name)
		case "allow_other":
			if !root {
				return o, faultf(BadRequest, "mount option allow_other: refused, it would open the files to other users; only root may do that")
			}
			o.all = true
		case "allow_root":
			if !root {
				return o, faultf(BadRequest, "mount option allow_root: refused, it would open the files to root")
			}
			continue // the owner is root
		default:
			flag, ok := ordinary[name]
			if !ok {
				return o, faultf(BadRequest, "mount option %q: unknown; there are ro, rw, noexec, exec, noatime, atime, sync, async, dirsync and, for root, allow_other", name)
			}
			o.flags = o.flags&^flag.clear | flag.set
		}
		o.names = append(o.names, name)
	}
	return o, nil
}
