//go:build !tokenfs_reveal

package lifecycle

// A test build adds a verb; this is how it is absent from all others.
//
//lint:ignore U1000 the other build uses it
type revelation struct{}

func testVerb(string) bool { return false }

func (*daemon) reveal(request) (reply, bool) { return reply{}, false }

func (*workerProcess) reveal(toWorker) (toKeeper, bool) { return toKeeper{}, false }
