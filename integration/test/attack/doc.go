// Package attack is a hostile program of the user's own: while the processes of
// a filesystem start, live and die it tries to get at their descriptors and
// memory. The same attacks on a program that does without our precautions must
// succeed, or the test would see nothing.
package attack
