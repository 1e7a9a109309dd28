package sandbox

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// forbidden is what Landlock takes away: all that ABI 6 knows (landlock(7)).
// What a later ABI adds is not asked for: no kernel here has shown it at work.
var forbidden = landlock.V6

const (
	scopeABI = 6
	// signalErratum is erratum 2. A kernel without this fix also forbids signals
	// between the threads of one process, which Go's runtime needs; the library
	// falls back to ABI 5 there.
	signalErratum = 1 << (2 - 1)
)

// restrictFiles allows nothing of what this kernel's Landlock can forbid, on
// all threads. It returns the ABI in force.
func restrictFiles() (abi int, err error) {
	abi, err = landlocksys.LandlockGetABIVersion()
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return 0, errors.New("this kernel has none, or it was not enabled at boot (lsm=landlock,...)")
	case err != nil:
		return 0, fmt.Errorf("landlock_create_ruleset: %w", err)
	}
	if errata, err := landlocksys.LandlockGetErrata(); abi >= scopeABI && (err != nil || errata&signalErratum == 0) {
		abi = scopeABI - 1
	}
	if err := forbidden.BestEffort().Restrict(testFiles()...); err != nil {
		return abi, fmt.Errorf("landlock: %w", err)
	}
	return abi, nil
}
