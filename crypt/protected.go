//go:build !tokenfs_unprotected

package crypt

// Unprotected is true in a test build that leaves secrets on the heap, so that
// the search for them can be seen to find some.
const Unprotected = false
