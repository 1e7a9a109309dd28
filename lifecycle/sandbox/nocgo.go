//go:build !cgo

package sandbox

var buildRules = testRules
