//go:build race

package mounted

const testRace = true
