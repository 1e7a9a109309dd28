//go:build race

package main

// The race detector takes memory of its own.
const pssLimit = 100 << 20

// raceDetector says whether it is in these tests and in the command that they run.
const raceDetector = true
