//go:build !race

package mounted

const testRace = false
