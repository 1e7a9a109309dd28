//go:build race

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The race detector writes what it finds to a file that it opens then:
// GORACE=log_path=.
const testsMayWrite = true

func allowTests(ruleset int, handled uint64) error {
	for option := range strings.FieldsSeq(os.Getenv("GORACE")) {
		path, ok := strings.CutPrefix(option, "log_path=")
		if !ok || !filepath.IsAbs(path) {
			continue
		}
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("the race detector's directory: %w", err)
		}
		defer unix.Close(dir)
		// struct landlock_path_beneath_attr is packed: 12 bytes.
		rule := struct {
			access uint64
			parent int32
		}{(unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_TRUNCATE) & handled, int32(dir)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("the race detector's directory: %w", errno)
		}
	}
	return nil
}

var testRules = []rule{{call: unix.SYS_OPENAT}}
