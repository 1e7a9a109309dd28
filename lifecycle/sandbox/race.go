//go:build race

package sandbox

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// The race detector writes what it finds to a file that it opens then:
// GORACE=log_path=.
const testsMayWrite = true

// testFiles lets the race detector write where GORACE says.
func testFiles() (rules []landlock.Rule) {
	const write = landlocksys.AccessFSWriteFile | landlocksys.AccessFSMakeReg | landlocksys.AccessFSTruncate
	for option := range strings.FieldsSeq(os.Getenv("GORACE")) {
		if path, ok := strings.CutPrefix(option, "log_path="); ok && filepath.IsAbs(path) {
			rules = append(rules, landlock.PathAccess(write, filepath.Dir(path)))
		}
	}
	return rules
}

var testRules = []rule{{call: unix.SYS_OPENAT}}
