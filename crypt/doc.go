// Package crypt keeps bytes sealed in memory: locked memory, keys, seal and
// open, and the arena with its log. It knows nothing of files or paths: a
// Place, which it binds a block to, is three numbers.
//
// All state that must outlive a process lies in three memfds, a Memory. The
// heap holds only what can be rebuilt from them.
//
//	key region   memfd_secret(2) where there is one, else a locked memfd:
//	             session key, log keys, data keys, the cipher states of those
//	             in use
//	arena        superblock, two halves of a log, cells of 4 KiB; ciphertext
//	             only, so it need not be locked
//	slots        where requests are read to and answered from; locked
//
// # Keys
//
//	session key ── seals the superblock, which repeats in the arena which half of
//	               the log counts
//	log key     ── one per checkpoint: seals the records, in which stand nonce
//	               and tag of every block
//	data key    ── one per extent of a version of a file: seals its blocks; one per
//	               attribute; one per target of a symlink, which is sealed into
//	               the caller's memory (inline.go)
//
// Every key is 32 fresh random bytes from getrandom(2), drawn straight into the
// key region; none is derived from another, and none is ever stored sealed. To
// erase a file version is to zero those of its keys, 32 bytes each. To wipe is to
// zero the region.
//
// # Cipher
//
// AES-256-GCM (NIST SP 800-38D) from the standard library, nonces random of 96
// bits, and nothing to choose. A key seals at most 2^28 times. The AAD of a
// block is the session's identity and its Place, that of a record its
// generation and number: nothing opens anywhere but where it was sealed.
//
// Keys are touched only on threads that are Quiet: no signal frame ever holds
// their registers. Cipher states are computed in the key region itself
// (gcm.go), because the library's constructors would do it on the heap. Vector
// registers are overwritten after each use of a key and before a thread waits
// (registers.go), because the kernel keeps a copy of them. What that leaves is
// measured by searching the memory and the registers of the process; not covered
// are a thread that loses the CPU in the middle of a seal, and the first round
// key, masked with a counter block, on the stack of a running seal.
//
// # Crashes
//
// How many records are committed, and which half of the log they are in, are two
// words of the key region. A record counts from the atomic store of the number on,
// which comes after everything it refers to. Whoever attaches to a dead process's
// memory replays the records and erases every key and cell that none refers to.
// Compaction writes a checkpoint into the other half under a new key, which can go
// on for long, and switches by one atomic store of the generation.
//
// # Damage
//
// The arena is ordinary memory, of which a bit may flip. A block that does not
// authenticate is an error of whoever reads it. A record that does not ends the
// log, and the number in the key region tells how many were committed and are
// lost by that: none goes unnoticed. The superblock repeats what the key region
// says, and is put right. The other half is erased once this one is replayed.
package crypt
