// Command bench measures what a token cache costs on tokenfs and on what a user
// could have instead: make bench. Results go to performance.txt, one picture per
// workload to pictures/.
//
// # How it measures
//
// Every filesystem is mounted at once and idle but for its turn. In each round
// every workload runs on each of them for a moment, in an order that moves on
// by one from round to round; so whatever else the machine does meets all. The
// figures are medians and 99th percentiles over the operations of all rounds.
// Nothing but ratios within one run means much.
//
//	rivals.go     what is compared, and how each is started
//	workloads.go  what is measured, one function each
//	client.go     the process that runs a workload: raw system calls, no garbage
//	login.go      the calls of an az login
//	lifetime.go   start to ready, and the end of files: wipe against unlink
//	costs.go      memory, CPU and wake-ups
//	trace.go      what the kernel asks of each filesystem
//	floor/        the least that a FUSE filesystem can do, in C
package main
