//go:build !amd64

package scan

const vectorSet = 2 // NT_PRFPREG
