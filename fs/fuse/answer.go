package fuse

// What the kernel is answered, and what it is told unasked.

// OutHeader begins each answer.
type OutHeader struct {
	Length uint32
	Status int32 // 0, or an errno and a minus
	Unique uint64
}

type InitOut struct {
	Major, Minor                       uint32
	MaxReadAhead, Flags                uint32
	MaxBackground, CongestionThreshold uint16
	MaxWrite, TimeGran                 uint32
	MaxPages, MapAlignment             uint16
	Flags2, MaxStackDepth              uint32
	RequestTimeout                     uint16
	Unused                             [11]uint16
}

// Attr is what is known of an inode.
type Attr struct {
	Ino, Size, Blocks               uint64
	Atime, Mtime, Ctime             uint64
	Atimensec, Mtimensec, Ctimensec uint32
	Mode, Nlink                     uint32
	Owner
	Rdev, Blksize, SpareFlags uint32
}

type EntryOut struct {
	NodeId, Generation            uint64
	EntryValid, AttrValid         uint64
	EntryValidNsec, AttrValidNsec uint32
	Attr
}

type AttrOut struct {
	AttrValid            uint64
	AttrValidNsec, Dummy uint32
	Attr
}

type StatxOut struct {
	AttrValid            uint64
	AttrValidNsec, Flags uint32
	Spare                [2]uint64
	Statx
}

// Statx is struct statx as statx(2) has it, up to the spare fields.
type Statx struct {
	Mask, Blksize              uint32
	Attributes                 uint64
	Nlink, Uid, Gid            uint32
	Mode, Spare0               uint16
	Ino, Size, Blocks          uint64
	AttributesMask             uint64
	Atime, Btime, Ctime, Mtime SxTime
	RdevMajor, RdevMinor       uint32
	DevMajor, DevMinor         uint32
	Spare2                     [14]uint64
}

type SxTime struct {
	Sec            uint64
	Nsec, Reserved uint32
}

type OpenOut struct {
	Fh        uint64
	OpenFlags uint32
	BackingID int32
}

type WriteOut struct{ Size, Padding uint32 }

type LseekOut struct{ Offset uint64 }

type StatfsOut struct {
	Blocks, Bfree, Bavail, Files, Ffree uint64
	Bsize, NameLen, Frsize, Padding     uint32
	Spare                               [6]uint32
}

type NotifyInvalInodeOut struct {
	Ino         uint64
	Off, Length int64
}

type NotifyInvalEntryOut struct {
	Parent         uint64
	NameLen, Flags uint32
}
