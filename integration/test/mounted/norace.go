//go:build !race

package mounted

// Race says whether this is a build with the race detector.
const Race = false
