//go:build !race

package sandbox

import "github.com/landlock-lsm/go-landlock/landlock"

// testsMayWrite is true where a test's own machinery opens files at any time.
const testsMayWrite = false

func testFiles() []landlock.Rule { return nil }

var testRules []rule
