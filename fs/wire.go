package fs

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// The wire format of /dev/fuse is struct by struct that of <linux/fuse.h>; the
// structs are in package fuse. This is the only file that casts memory to them.

// Opcodes, enum fuse_opcode.
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opAccess        = 34
	opCreate        = 35
	opInterrupt     = 36
	opDestroy       = 38
	opIoctl         = 39
	opBatchForget   = 42
	opFallocate     = 43
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
	opTmpfile       = 51
	opStatx         = 52
)

// Notifications, enum fuse_notify_code.
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
)

const (
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))
)

// Flags that package fuse does not name.
const (
	fopenNoFlush       = 1 << 5
	openKillSuidgid    = 1 << 0 // OpenIn.Mode, CreateIn.OpenFlags
	writeCache         = 1 << 0 // WriteIn.WriteFlags
	writeKillSuidgid   = 1 << 2
	readLockOwner      = 1 << 1 // ReadIn.ReadFlags
	fattrKillSuidgid   = 1 << 11
	statxBasicAndBtime = unix.STATX_BASIC_STATS | unix.STATX_BTIME
)

// batchForgetIn is followed by as many of forgetOne as it counts.
type batchForgetIn struct {
	fuse.InHeader
	Count, Dummy uint32
}

type forgetOne struct{ NodeId, Nlookup uint64 }

// setxattrIn is struct fuse_setxattr_in before FUSE_SETXATTR_EXT, which we do
// not ask for.
type setxattrIn struct {
	fuse.InHeader
	Size, Flags uint32
}

type getxattrIn struct {
	fuse.InHeader
	Size, Padding uint32
}

// renameIn is the body of RENAME; RENAME2's is fuse.RenameIn.
type renameIn struct {
	fuse.InHeader
	Newdir uint64
}

// as views the front of b as a T. b is longer than a T and aligned to 8 bytes:
// request and reply buffers are page-aligned, and sizes are checked before.
func as[T any](b []byte) *T {
	_ = b[unsafe.Sizeof(*new(T))-1]
	return (*T)(unsafe.Pointer(&b[0]))
}

func sizeOf[T any]() int { return int(unsafe.Sizeof(*new(T))) }

// cstring cuts a NUL-terminated string off the front of b. The bytes stay
// where they are; a name that is kept is copied then.
func cstring(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// dirent64 is struct fuse_dirent without its name.
type dirent64 struct {
	Ino, Off     uint64
	NameLen, Typ uint32
}

const direntSize = 24

type getxattrOut struct{ Size, Padding uint32 }
