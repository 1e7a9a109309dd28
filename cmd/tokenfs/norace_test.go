//go:build !race

package main

// pssLimit is what a filesystem that holds nothing may take.
const pssLimit = 20 << 20

const raceDetector = false
