// Package process is ground that the processes of tokenfs stand on: what makes one
// unreadable for its user (harden.go), whether somebody traces it (tracer.go), what it
// keeps of its caller's environment (environment.go), limits (limits.go), capabilities
// and the OOM killer, pidfds (process.go), waiting (waitid.go), signals passed on
// (signals.go), a timer of the kernel that ends a process that stands still
// (killtimer.go), a start in the background (background.go) and the service manager
// (notify.go).
//
// It must never know the filesystem.
package process
