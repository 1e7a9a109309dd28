// Package mount is about the place of a filesystem and its mount: where it is
// (mountpoint.go), who may change it (lock.go), what the mount table says
// (mountinfo.go), how it is mounted by root (mount.go, mountoptions.go), by a user
// through fusermount3 (fusermount.go, rootsalone.go), or in namespaces of another
// process (inside.go). within.go finds what a path means inside, and failed.go keeps
// the note of a start at login that failed.
//
// It must never know workers, the control socket, sessions, or anything that is
// served.
package mount
