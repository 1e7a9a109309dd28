//go:build !race

package sandbox

// testsMayWrite is true where a test's own machinery opens files at any time.
const testsMayWrite = false

func allowTests(int, uint64) error { return nil }

var testRules []rule
