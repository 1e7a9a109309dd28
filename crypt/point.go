//go:build !tokenfs_torture

package crypt

// Point is a place where a test build can be made to die. It is nothing here.
func Point(string) {}

// During names the kind of request that the points that follow belong to.
func During(uint32) {}

// ServesTwice is true in a test build that serves a request again although it
// was served, so that a checker of histories can be seen to notice.
func ServesTwice() bool { return false }
