// Package conformance holds the tests that need a real mount: tokenfs, served
// by a process of its own, beside a tmpfs that says what is right. It knows
// system calls and the sequences in which clients make them, and must never
// look inside the server: whatever it checks, an application could see.
//
// The tests want root, /dev/fuse and a mount namespace of their own, and fail
// saying so where one is missing. With TOKENFS_TEST_DIR=DIR they test the
// filesystem that DIR is on instead, which is how to see them fail; what needs
// a mount with special options, or a wipe, is then skipped by name.
//
//	go test ./fs/conformance                        the form for every commit
//	go test ./fs/conformance -run Model -model.ops 1000000
//	go test ./fs/conformance -run Model -model.seed 7
package conformance
