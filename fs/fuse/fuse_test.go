package fuse

import (
	"reflect"
	"strings"
	"testing"

	theirs "github.com/hanwen/go-fuse/v2/fuse"
)

// Each struct is as long as go-fuse's, and what has the same name lies at the same
// place: a mistake here would be one in what the kernel reads.
func TestSameAsGoFuse(t *testing.T) {
	for _, c := range [][2]any{
		{InHeader{}, theirs.InHeader{}}, {Caller{}, theirs.Caller{}}, {Owner{}, theirs.Owner{}},
		{InitIn{}, theirs.InitIn{}}, {GetAttrIn{}, theirs.GetAttrIn{}}, {SetAttrInCommon{}, theirs.SetAttrInCommon{}},
		{StatxIn{}, theirs.StatxIn{}}, {MknodIn{}, theirs.MknodIn{}}, {MkdirIn{}, theirs.MkdirIn{}},
		{RenameIn{}, theirs.RenameIn{}}, {LinkIn{}, theirs.LinkIn{}}, {OpenIn{}, theirs.OpenIn{}},
		{CreateIn{}, theirs.CreateIn{}}, {ReleaseIn{}, theirs.ReleaseIn{}}, {FlushIn{}, theirs.FlushIn{}},
		{FsyncIn{}, theirs.FsyncIn{}}, {ReadIn{}, theirs.ReadIn{}}, {WriteIn{}, theirs.WriteIn{}},
		{FallocateIn{}, theirs.FallocateIn{}}, {LseekIn{}, theirs.LseekIn{}}, {CopyFileRangeIn{}, theirs.CopyFileRangeIn{}},
		{OutHeader{}, theirs.OutHeader{}}, {InitOut{}, theirs.InitOut{}}, {Attr{}, theirs.Attr{}},
		{EntryOut{}, theirs.EntryOut{}}, {AttrOut{}, theirs.AttrOut{}}, {StatxOut{}, theirs.StatxOut{}}, {Statx{}, theirs.Statx{}},
		{SxTime{}, theirs.SxTime{}}, {OpenOut{}, theirs.OpenOut{}}, {WriteOut{}, theirs.WriteOut{}},
		{LseekOut{}, theirs.LseekOut{}}, {StatfsOut{}, theirs.StatfsOut{}},
		{NotifyInvalInodeOut{}, theirs.NotifyInvalInodeOut{}}, {NotifyInvalEntryOut{}, theirs.NotifyInvalEntryOut{}},
	} {
		a, b := reflect.TypeOf(c[0]), reflect.TypeOf(c[1])
		if a.Size() != b.Size() || a.Align() != b.Align() {
			t.Errorf("%v has %d bytes, %v has %d", a, a.Size(), b, b.Size())
		}
		same := 0
		for _, f := range reflect.VisibleFields(a) {
			name := f.Name
			if strings.HasPrefix(name, "Spare") || strings.HasPrefix(name, "Unused") || strings.HasPrefix(name, "Reserved") || f.Anonymous {
				continue // they have no names there that can be seen, or others
			}
			g, ok := b.FieldByName(name)
			if a == reflect.TypeFor[GetAttrIn]() && !ok {
				g, ok = b.FieldByName(name + "_") // a method has the name
			}
			if !ok {
				t.Errorf("%v has no %s", b, name)
				continue
			}
			if at, there := offset(a, f.Index), offset(b, g.Index); at != there || f.Type.Kind() != g.Type.Kind() {
				t.Errorf("%v.%s is at %d, and at %d there", a, name, at, there)
			}
			same++
		}
		if same == 0 {
			t.Errorf("nothing of %v was compared", a)
		}
	}
}

// offset is that of a field of structs within structs.
func offset(t reflect.Type, index []int) (at uintptr) {
	for _, i := range index {
		f := t.Field(i)
		at += f.Offset
		t = f.Type
	}
	return at
}

func TestSameFlags(t *testing.T) {
	for _, c := range [][2]uint64{
		{CAP_ASYNC_READ, theirs.CAP_ASYNC_READ}, {CAP_ATOMIC_O_TRUNC, theirs.CAP_ATOMIC_O_TRUNC},
		{CAP_BIG_WRITES, theirs.CAP_BIG_WRITES}, {CAP_PARALLEL_DIROPS, theirs.CAP_PARALLEL_DIROPS},
		{CAP_MAX_PAGES, theirs.CAP_MAX_PAGES}, {CAP_HANDLE_KILLPRIV_V2, theirs.CAP_HANDLE_KILLPRIV_V2},
		{CAP_DIRECT_IO_ALLOW_MMAP, theirs.CAP_DIRECT_IO_ALLOW_MMAP},
		{FATTR_MODE, theirs.FATTR_MODE}, {FATTR_UID, theirs.FATTR_UID}, {FATTR_GID, theirs.FATTR_GID},
		{FATTR_SIZE, theirs.FATTR_SIZE}, {FATTR_ATIME, theirs.FATTR_ATIME}, {FATTR_MTIME, theirs.FATTR_MTIME},
		{FATTR_FH, theirs.FATTR_FH}, {FATTR_ATIME_NOW, theirs.FATTR_ATIME_NOW}, {FATTR_MTIME_NOW, theirs.FATTR_MTIME_NOW},
		{FUSE_GETATTR_FH, theirs.FUSE_GETATTR_FH}, {FOPEN_DIRECT_IO, theirs.FOPEN_DIRECT_IO},
	} {
		if c[0] != c[1] {
			t.Errorf("%#x is %#x there", c[0], c[1])
		}
	}
	in := InitIn{Flags: 5, Flags2: 1 << 4}
	if in.Flags64() != CAP_DIRECT_IO_ALLOW_MMAP|5 {
		t.Errorf("%#x", in.Flags64())
	}
}
