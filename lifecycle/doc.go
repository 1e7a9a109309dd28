// Package lifecycle brings a filesystem up and takes it down: where it is
// mounted, the mount itself, the daemon that serves it, and the socket through
// which it is asked for its status, told to wipe, or told to end.
//
// It knows mount tables, processes and sockets. It must never know keys, file
// contents, or how anything is sealed, and it never prints: that is the
// command's business.
//
// # Keeper and worker
//
//	keeper   mounts and unmounts, holds /dev/fuse, key region, arena and request
//	         slots, owns the control socket; reads nothing that comes through the
//	         filesystem (daemon.go, supervisor.go, calls.go)
//	worker   locks itself down (lockdown.go, package sandbox), attaches to all
//	         that and serves it (worker.go)
//
// The worker may be killed at any moment: another one finds in the shared
// memory what it had done and what it was doing. One that is stopped, or that
// holds a request for two seconds without a step, is killed for it. Whatever must not fail,
// such as a wipe, the keeper does itself when no worker answers. If they cannot
// be started, or do not stay up, it wipes and unmounts (patience.go).
//
// No descriptor of the filesystem crosses an exec. A fresh process first makes
// itself unreadable for its user, then claims them over an end of a socket pair
// that it was started with; the giver knows it by its pidfd (handover.go,
// process.go). An upgrade (upgrade.go, resume.go) hands everything to a holder, a
// third process (upgradeholder.go), while the keeper executes the new program in
// its own place; the new worker is a restarted one like any other. There is no
// way back from there, so the new program first plays it all with a filesystem
// that is nobody's (rehearsal.go). A keeper whose program only root can replace
// notices by itself that it was replaced, or removed for good (newprogram.go).
//
// The worker ends with the keeper, in an upgrade the holder does. If the keeper was
// killed, they destroy the keys and all that they sealed first, which nobody else
// could; the kernel ends them if that takes too long (package orphan).
//
// For a command (run.go) there is a third process: the launcher, which makes the
// namespaces, has a keeper outside mount in them, and then becomes the command
// (launcher.go, private.go, inside.go). It never has /dev/fuse. The keeper of such a
// mount ends with tokenfs run, which waits for the command.
//
// # Sessions
//
// What is mounted at the default place ends with its user's logins: session.go
// decides when, from what logind says (logind.go) and from leases (lease.go;
// holder.go for those of commands), and linger.go has the user manager live as
// long as that needs. An upgrade hands all of it on.
//
// # Order
//
// At the start everything that can fail without leaving a trace comes first:
// the mountpoint is checked and locked, the control socket bound, the memory
// made; then the mount, which the caller sees, and only then readiness.
//
// At the end the order is the promise: keys, then mount, then what they sealed,
// then socket, then the process. Nothing before the first step can fail, and nothing after it can
// bring a secret back.
package lifecycle
