package fuse

// What the kernel sends: a header, and what belongs to the kind of request.

// Owner of a file, or of the process that asks.
type Owner struct{ Uid, Gid uint32 }

// Caller is the process that asks: Pid is its thread's.
type Caller struct {
	Owner
	Pid uint32
}

// InHeader begins each request.
type InHeader struct {
	Length, Opcode uint32
	Unique, NodeId uint64
	Caller
	TotalExtlen, Padding uint16
}

type InitIn struct {
	InHeader
	Major, Minor  uint32
	MaxReadAhead  uint32
	Flags, Flags2 uint32
	Unused        [11]uint32
}

// Flags64 are all flags, where the kernel says that there are more than 32.
func (in *InitIn) Flags64() uint64 { return uint64(in.Flags2)<<32 | uint64(in.Flags) }

type GetAttrIn struct {
	InHeader
	Flags, Dummy uint32
	Fh           uint64
}

type SetAttrInCommon struct {
	InHeader
	Valid, Padding                  uint32
	Fh, Size, LockOwner             uint64
	Atime, Mtime, Ctime             uint64
	Atimensec, Mtimensec, Ctimensec uint32
	Mode, Unused4                   uint32
	Owner
	Unused5 uint32
}

type StatxIn struct {
	InHeader
	GetattrFlags, Reserved uint32
	Fh                     uint64
	SxFlags, SxMask        uint32
}

type MknodIn struct {
	InHeader
	Mode, Rdev, Umask, Padding uint32
}

type MkdirIn struct {
	InHeader
	Mode, Umask uint32
}

// RenameIn is of RENAME2; RENAME has no flags.
type RenameIn struct {
	InHeader
	Newdir         uint64
	Flags, Padding uint32
}

type LinkIn struct {
	InHeader
	Oldnodeid uint64
}

type OpenIn struct {
	InHeader
	Flags, Mode uint32
}

type CreateIn struct {
	InHeader
	Flags, Mode, Umask, OpenFlags uint32
}

type ReleaseIn struct {
	InHeader
	Fh                  uint64
	Flags, ReleaseFlags uint32
	LockOwner           uint64
}

type FlushIn struct {
	InHeader
	Fh              uint64
	Unused, Padding uint32
	LockOwner       uint64
}

type FsyncIn struct {
	InHeader
	Fh                  uint64
	FsyncFlags, Padding uint32
}

type ReadIn struct {
	InHeader
	Fh, Offset      uint64
	Size, ReadFlags uint32
	LockOwner       uint64
	Flags, Padding  uint32
}

type WriteIn struct {
	InHeader
	Fh, Offset       uint64
	Size, WriteFlags uint32
	LockOwner        uint64
	Flags, Padding   uint32
}

type FallocateIn struct {
	InHeader
	Fh, Offset, Length uint64
	Mode, Padding      uint32
}

type LseekIn struct {
	InHeader
	Fh, Offset      uint64
	Whence, Padding uint32
}

type CopyFileRangeIn struct {
	InHeader
	FhIn, OffIn              uint64
	NodeIdOut, FhOut, OffOut uint64
	Len, Flags               uint64
}
