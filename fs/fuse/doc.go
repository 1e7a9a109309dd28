// Package fuse is the wire format of /dev/fuse: the structs and flags of
// <linux/fuse.h> that this filesystem has a use for, with nothing behind them.
// Names are those of go-fuse, which the test compares with. That library itself
// makes a pipe when a program starts, and panics where it can have none.
package fuse

// Flags of INIT.
const (
	CAP_ASYNC_READ           = 1 << 0
	CAP_ATOMIC_O_TRUNC       = 1 << 3
	CAP_BIG_WRITES           = 1 << 5
	CAP_PARALLEL_DIROPS      = 1 << 18
	CAP_MAX_PAGES            = 1 << 22
	CAP_HANDLE_KILLPRIV_V2   = 1 << 28
	CAP_DIRECT_IO_ALLOW_MMAP = 1 << 36
)

// Flags of SETATTR: which of its fields count.
const (
	FATTR_MODE      = 1 << 0
	FATTR_UID       = 1 << 1
	FATTR_GID       = 1 << 2
	FATTR_SIZE      = 1 << 3
	FATTR_ATIME     = 1 << 4
	FATTR_MTIME     = 1 << 5
	FATTR_FH        = 1 << 6
	FATTR_ATIME_NOW = 1 << 7
	FATTR_MTIME_NOW = 1 << 8
)

// FUSE_GETATTR_FH says that GETATTR names a handle.
const FUSE_GETATTR_FH = 1 << 0

// FOPEN_DIRECT_IO has reads and writes of an open file bypass the page cache.
const FOPEN_DIRECT_IO = 1 << 0
