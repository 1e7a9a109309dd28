//go:build !tokenfs_torture

package process

// hookVars are what a test tells the processes by: nothing, in what ships.
var hookVars []string
