// Package fs is the filesystem: inodes, directories, files, quota, callers and
// the FUSE transport. It does no cryptography of its own, and knows nothing of
// how it was mounted or who controls it.
//
// # The way of a request
//
// A serving thread reads it into its slot of locked memory (transport.go),
// finds its parts (dispatch.go) and changes the index under one lock: inodes,
// names, which sealed block is where. Contents go straight between slot and
// arena. What changed becomes one sealed record (record.go), committed before
// the answer is written out of the slot; then the slot is cleared.
//
// Requests are parsed here, over the wire structs of package fuse. go-fuse's
// ProtocolServer.HandleRequest copies the first 128 bytes of every request to
// the heap, allocates for each, takes the name .go-fuse-epoll-hack for itself,
// and has no notion of requests served outside it.
//
// No request takes long. What follows from one and takes as long as there is data,
// such as zeroing the blocks of a large file whose keys are gone, is left to the
// upkeep (upkeep.go), a thread that works in steps and lets requests in between.
//
// # After a crash
//
// A successor attaches to the memory, answers the saved INIT as its predecessor
// did, builds the index from the log (replay.go) and serves what is in the
// slots. A record carries the request it is of and its result: a request that
// was recorded is answered again, not served again; one that was served twice and
// ended the process both times is answered with EIO (blame.go). Node ids are inode numbers
// and are never used twice. What must be known of an open file stands in the log, if it
// is being saved (draft.go), or else in the memory beside the slots (handle.go).
//
// # The beginning of a session
//
// A mount and a wipe begin a session with an empty tree, but for the folders of
// the skeleton (skeleton.go), which are there before anything is answered: apps
// are linked to them, and must not find links that lead nowhere. Wiping one of
// them leaves it empty, for the same reason.
//
// # Deviations from tmpfs
//
// tmpfs is the reference. What a program can tell apart:
//
//	                          tmpfs                  here
//	POSIX ACLs                supported              EOPNOTSUPP
//	chattr, lsattr            supported              ENOTTY
//	statfs type               TMPFS_MAGIC            FUSE_SUPER_MAGIC
//	cutting a file of up to   others find nothing,   others find what was there,
//	  1 MiB to nothing, and     then more and more     until it is closed, synced,
//	  writing it                                       or not written for 2 s; if
//	                                                   its writer is killed first,
//	                                                   also from then on. Its mtime
//	                                                   is that of the close. See
//	                                                   Config.WholeSaves, draft.go.
//	                                                   A mapping, sendfile, splice
//	                                                   or copy_file_range of others
//	                                                   may end early who have not
//	                                                   called fstat since it was cut
//	reading a file from its   what is there at each  one version, to its end; of
//	  beginning                 read                   one that has asked for its
//	                                                   size and reads as much, up to
//	                                                   128 KiB and 2 s after it was
//	                                                   opened, that of that size
//	full filesystem           ENOSPC                 a file of up to 1 MiB that
//	                                                 was truncated may be written
//	                                                 again, to its size and
//	                                                 256 KiB more; see Config.Most
//	attribute values          count as inodes        count as bytes, and each
//	                                                 attribute as an inode
//	a file made of holes      can fill the quota     has a key for each 1.25 MiB
//	                                                 with something in it; behind
//	                                                 the first there are 1024 and
//	                                                 one per 256 KiB of quota
//	targets of more than      count a page each      do, and have 1/32 of the
//	  127 bytes                                      quota together
//	store through a mapping   stamps no time         stamps mtime when written back
//	MAP_SHARED                always                 Linux 6.6 or newer, else ENODEV
//	copy_file_range           all at once            1 MiB at a time
//	chown(f, -1, -1) of       EPERM                  0, and nothing changes
//	  somebody else's file
//	writing to a set-group-   bit kept if the        bit kept if it is the
//	  id file                 caller is of the       caller's first group
//	                          group
//	sendfile onto itself,     reads what it wrote    unspecified
//	  overlapping
//	writing to a FIFO         moves its times        does not
//	fallocate by the owner    refused                refused, but set-id bits go
//	  without room, or
//	  ZERO_RANGE
//	copy_file_range from      moves no atime         moves it
//	  O_NOATIME
//	birth time                always                 Linux 6.6 or newer
//	O_TMPFILE                 always                 Linux 6.1 or newer
//	open_by_handle_at         always                 while the inode is cached
//	wipe                      there is none          inotify does not tell of it
package fs
