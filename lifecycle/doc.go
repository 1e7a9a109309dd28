// Package lifecycle is the keeper and the worker of a filesystem, the control socket
// through which they are asked for their status and told to wipe or to end, and
// upgrades.
//
// It must never know keys, file contents, or how anything is sealed, and it never
// prints: that is the command's business.
//
// # Packages
//
// What the keeper stands on is in packages of its own; arrows run down only.
//
//	run         tokenfs run: a filesystem for one process tree
//	session     when a login session begins and ends
//	mount       the mount table, fusermount3, the place
//	handover    descriptors from process to process, and who gets them
//	process     hardening, limits, environment, pidfds, timers, signals
//	fault       kinds of errors
//	sandbox     what a worker takes from itself
//	orphan      what outlives a killed keeper, and destroys what it held
//	pamservice  which PAM services count as logins
//
// # Files
//
//	daemon.go, logins.go, claim.go, private.go   the keeper, from its start to its end
//	supervisor.go, child.go, hear.go, watch.go, patience.go, thread.go   its workers, and when one is replaced
//	calls.go, lines.go                           what the keeper says to a worker
//	worker.go, lockdown.go, collect.go           the worker
//	control.go, protocol.go, verbs.go            the control socket, as served
//	client.go, unmount.go, holder.go             and as used; tokenfs hold
//	status.go, processes.go, journal.go, memorylimit.go, initonfree.go   what status tells
//	inherited.go                                 what the keeper does not take from its caller
//	upgrade.go, upgradeholder.go, resume.go, rehearsal.go, newprogram.go, inotify.go   upgrades
//	reveal.go, intrude.go, torture.go            hooks of test builds
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
// that it was started with; the giver knows it by its pidfd (package
// handover). An upgrade (upgrade.go, resume.go) hands everything to a holder, a
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
// For a command (package run) there is a third process: the launcher, which makes the
// namespaces, has a keeper outside mount in them (private.go), and then becomes the
// command. It never has /dev/fuse. The keeper of such a mount ends with tokenfs run,
// which waits for the command.
//
// # Sessions
//
// What is mounted at the default place ends with its user's logins: package session
// decides when, from what logind says and from leases (holder.go for those of
// commands). An upgrade hands all of it on.
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
