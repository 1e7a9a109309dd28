package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What each version of Landlock can forbid (landlock(7)). What a later one adds
// is not asked for: nobody could have seen it work.
var landlockVersions = []struct {
	abi            int
	fs, net, scope uint64
}{
	{1, 1<<13 - 1, 0, 0}, // LANDLOCK_ACCESS_FS_EXECUTE up to MAKE_SYM
	{2, unix.LANDLOCK_ACCESS_FS_REFER, 0, 0},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE, 0, 0},
	{4, 0, unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 0},
	{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, 0, 0},
	{6, 0, 0, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET},
}

const (
	// tsyncABI is the first whose landlock_restrict_self can mean all threads.
	tsyncABI = 8
	// scopeABI could forbid signals, but until this was mended those between
	// threads of one process as well, which are how they are all reached.
	scopeABI      = 6
	signalErratum = 1 << (2 - 1)
)

// landlockRuleset is struct landlock_ruleset_attr up to ABI 6; the kernel takes
// a longer one than it knows if the rest is zero.
type landlockRuleset struct{ fs, net, scope uint64 }

// restrictFiles allows nothing of what this kernel's Landlock can forbid.
func restrictFiles() (abi int, err error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return 0, errors.New("this kernel has none, or it was not enabled at boot (lsm=landlock,...)")
	default:
		return 0, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	abi = int(version)
	rules := restrictions(abi)
	if abi >= scopeABI {
		errata, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
		if errno == 0 && errata&signalErratum != 0 {
			rules.scope |= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return abi, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	if testsMayWrite {
		if err := allowTests(int(fd), rules.fs); err != nil {
			return abi, err
		}
	}
	if abi >= tsyncABI {
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, unix.LANDLOCK_RESTRICT_SELF_TSYNC, 0)
		if errno != 0 {
			return abi, fmt.Errorf("landlock_restrict_self: %w", errno)
		}
		return abi, nil
	}
	if err := onAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); err != nil {
		return abi, fmt.Errorf("landlock_restrict_self: %w", err)
	}
	return abi, nil
}

func restrictions(abi int) (r landlockRuleset) {
	for _, v := range landlockVersions {
		if abi >= v.abi {
			r.fs, r.net, r.scope = r.fs|v.fs, r.net|v.net, r.scope|v.scope
		}
	}
	return r
}
