package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MountsItself says whether this process mounts by mount(2). Others need
// fusermount3; root tries, and is told why not.
func MountsItself() bool { return os.Geteuid() == 0 || IsCapable(unix.CAP_SYS_ADMIN) }

// IsCapable is about the calling process's own user namespace.
func IsCapable(capability int) bool {
	sets, err := CapabilitySets()
	return err == nil && sets[capability/32].Effective&(1<<(capability%32)) != 0
}

var thisThread = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}

func CapabilitySets() (sets [2]unix.CapUserData, err error) {
	header := thisThread
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return sets, fmt.Errorf("look at this process's capabilities: %w", err)
	}
	return sets, nil
}

// DropCapabilities makes the program that the calling thread executes next
// have none but those in keep. The thread must be locked.
func DropCapabilities(keep [2]uint32) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop capabilities: ambient set: %w", err)
	}
	// An exec gives root whatever is in the bounding set.
	for c := range 64 {
		if keep[c/32]&(1<<(c%32)) != 0 || os.Geteuid() != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel knows no more of them
		}
		if err != nil {
			return fmt.Errorf("drop capabilities: bounding set: %w", err)
		}
	}
	var sets [2]unix.CapUserData
	for i := range sets {
		if os.Geteuid() == 0 {
			sets[i].Permitted, sets[i].Effective = keep[i], keep[i]
		}
	}
	header := thisThread
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
