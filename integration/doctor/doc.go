// Package doctor looks for whatever on this machine and in this account weakens
// what tokenfs promises.
//
// It reads /proc, /sys, /etc and the home directory, and changes nothing. All
// paths are below Machine.Root, so that a test can plant what a machine may
// have. It shows nothing of what is in a token cache.
package doctor
