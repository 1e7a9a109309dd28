// Package lifecycle brings a filesystem up and takes it down: where it is
// mounted, the mount itself, the daemon that serves it, and the socket through
// which it is asked for its status, told to wipe, or told to end.
//
// It knows mount tables, processes and sockets. It must never know keys, file
// contents, or how anything is sealed, and it never prints: that is the
// command's business.
//
// # Order
//
// At the start everything that can fail without leaving a trace comes first:
// the mountpoint is checked and locked, the control socket bound, the memory
// made; then the mount, which the caller sees, and only then readiness.
//
// At the end the order is the promise: keys, then mount, then socket, then the
// process. Nothing before the first step can fail, and nothing after it can
// bring a secret back.
package lifecycle
