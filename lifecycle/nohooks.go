//go:build !tokenfs_torture

package lifecycle

// hookVars are what a test tells the processes by: nothing, in what ships.
var hookVars []string
