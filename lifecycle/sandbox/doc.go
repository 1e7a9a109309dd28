// Package sandbox takes from a process that serves an open connection whatever
// else it could do. Nothing of it can be undone, and it concerns all threads,
// those to come as well.
//
//	capabilities   none but the one to lock memory (of root's processes)
//	no_new_privs   no program could give it any (prctl(2))
//	Landlock       no file, no TCP port, no abstract socket, no signal out
//	               (landlock.go; what the kernel's version knows of these)
//	seccomp        the few system calls that serving and the Go runtime take
//	               (seccomp.go); any other ends the process, and its keeper
//	               learns which one it was (listener.go)
//	limits         no new descriptor, no growing file; set by the keeper, for
//	               the filter's listener is a descriptor, too
//
// Each stands alone: where a kernel lacks one, the others are there, and the
// State says so. It knows processes and the kernel, and nothing of what is
// served.
package sandbox
