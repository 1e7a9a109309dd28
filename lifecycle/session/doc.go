// Package session decides when a login session begins and ends: from what logind
// says (logind.go, bus.go), or from the processes that opened sessions through PAM
// where there is no logind (leader.go), and from leases, by which somebody holds a
// session beyond its logout (lease.go). linger.go has the user manager live as long
// as that needs; boottime.go is a clock that goes on while the machine sleeps.
//
// It knows users, logins and processes. It must never know mounts, workers, memory
// or the control protocol: what is to happen at the end is a function that it is
// given.
package session
