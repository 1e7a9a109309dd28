// Command ram, with run.sh and states.sh, is the RAM proof: what a dump of all of a
// machine's memory has of a token, in each state of the token's life, where it was kept
// on tokenfs and where it was kept on something else.
//
// The machine is that of integration/test/vm, with its memory in a file (make test-ram,
// or run.sh for one kernel and a few states). A client in it derives tokens from a seed
// and clears them again (guest/app). It alone leaves nothing, which each run shows first.
// After each event the machine is stopped, its memory copied and searched for
//
//	contents      every run of 16 bytes of a token, at any address
//	keys          of session, log and files, as a test build tells them; likewise
//	              their round keys and GHASH tables
//	ciphertext    what was sealed, once it has ended
//	names         of files, and targets of links
//	recovered     tokens that an attacker gets who has the dump and nothing else (attack.go)
//
// and so are its swap and its disk, for everything but the last. Whose a page is that
// has something is told by the kernel's own records in the dump (owner.go). What may be
// found is in the file limits, in one place; everything else fails the run, and so does
// a search that finds nothing on ext4 and tmpfs.
//
//	qmp.go, dump.go      stop the machine, copy its memory, walk its page table
//	owner.go             free, anonymous, slab, file
//	secrets.go           what is looked for
//	search.go            where it lies
//	attack.go            the attacker
//	limits.go, limits    what is expected
//	result.go, report.go one look, and the table for docs/evidence.md
package main
