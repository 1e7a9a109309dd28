// Package torture kills the worker of a mounted filesystem again and again, at
// random and at every step of a change, while processes use it that check each
// result. None of them may notice more than a pause.
//
// It knows the command, a test build's points to die at, and what a program may
// expect of a filesystem; it knows nothing of how the filesystem keeps that.
//
//	history.go    which orders of operations explain what processes saw
//	orders        which point a test build is to die at
//	subject       the mount, its keeper and its workers
//	clients       processes that share objects, and log what they did to them
//	private       processes that verify files of their own
//	saves         processes that save as apps do, and are killed meanwhile
//	programs      SQLite, git and MSAL
//
// The tests here run a short form; make torture and make soak the long ones.
package torture
