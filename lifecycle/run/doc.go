// Package run is tokenfs run: a filesystem for one process tree.
//
//	run.go       waits for the command, whose keeper and launcher it starts
//	launcher.go  becomes the command, in namespaces of its own
//	offer.go     what launcher and keeper say to each other
//	place.go     where the filesystem of a command is mounted
//
// It must never know sessions, workers or upgrades. The keeper of such a filesystem is
// one like any other, in package lifecycle.
package run
