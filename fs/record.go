package fs

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// A record holds the edits of one operation: what the index looks like behind
// it, not what was asked for, so that replaying needs no judgement. An edit is
// a kind byte and fixed fields, little-endian; strings follow their length.
const (
	editInode    = iota + 1 // everything but contents; see appendInode
	editTarget              // ino, target of a symlink
	editDrop                // ino
	editBlocks              // ino, n, n × block: set these
	editPunch               // ino, first, end: no entries there
	editPrealloc            // ino, first, last: empty entries where there is none
	editName                // dir, cookie, ino, name
	editUnname              // dir, cookie
	editKey                 // ino, extent, key and seals, version; key 0: it has none
	editXattr               // ino, key, version, size, name, n × sealed
	editUnxattr             // ino, name
	editUnxattrs            // ino
	editDone                // slot, unique, errno, value: this request was served
	editNext                // next inode number, next key version
)

// blockEdit is an encoded block: index, cell, length, nonce, tag.
const blockEdit = 8 + 4 + 2 + crypt.NonceSize + crypt.TagSize

// tx gathers what an operation changed. The index is changed first, under the
// server's lock; commit makes it durable; what became free is reused only then.
type tx struct {
	s     *Server
	buf   []byte
	dirty []*inode // to be written by commit, once each
	cells []uint32
	keys  []crypt.Key
	group crypt.Group
}

// stageAt is how long a record gets before it is staged: a long change is
// several records that count together or not at all.
const stageAt = crypt.MaxRecord / 2

func (t *tx) empty() bool { return len(t.buf) == 0 && len(t.dirty) == 0 && !t.group.Open() }

// put writes the inode's fields when the operation is committed.
func (t *tx) put(n *inode) {
	if !slices.Contains(t.dirty, n) {
		t.dirty = append(t.dirty, n)
	}
}

// create writes a new inode at once: other edits of the operation refer to it.
func (t *tx) create(n *inode) { t.buf = appendInode(t.buf, n) }

func (t *tx) freeCell(c uint32) {
	if c != 0 {
		t.cells = append(t.cells, c)
	}
}

func (t *tx) freeKey(k crypt.Key) {
	if k != 0 {
		t.keys = append(t.keys, k)
	}
}

func (t *tx) kind(k byte, args ...uint64) {
	t.buf = append(t.buf, k)
	for _, a := range args {
		t.buf = binary.LittleEndian.AppendUint64(t.buf, a)
	}
}

func (t *tx) string(s string) {
	t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(len(s)))
	t.buf = append(t.buf, s...)
}

func (t *tx) target(n *inode) {
	t.kind(editTarget, n.ino)
	t.string(n.target)
}

func (t *tx) drop(ino uint64) {
	t.dirty = slices.DeleteFunc(t.dirty, func(n *inode) bool { return n.ino == ino })
	t.kind(editDrop, ino)
}

func (t *tx) punch(ino, first, end uint64)     { t.kind(editPunch, ino, first, end) }
func (t *tx) prealloc(ino, first, last uint64) { t.kind(editPrealloc, ino, first, last) }
func (t *tx) unname(dir, cookie uint64)        { t.kind(editUnname, dir, cookie) }

func (t *tx) name(dir uint64, e *dirent) {
	t.kind(editName, dir, e.cookie, e.ino)
	t.string(e.name)
}

func (t *tx) blocks(ino uint64, list []block) {
	for part := range slices.Chunk(list, stageAt/2/blockEdit) {
		t.stage()
		t.kind(editBlocks, ino, uint64(len(part)))
		for i := range part {
			t.buf = binary.LittleEndian.AppendUint64(t.buf, part[i].idx)
			t.buf = appendSealed(t.buf, &part[i].Sealed)
		}
	}
}

func appendSealed(buf []byte, s *crypt.Sealed) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, s.Cell)
	buf = binary.LittleEndian.AppendUint16(buf, s.Len)
	buf = append(buf, s.Nonce[:]...)
	return append(buf, s.Tag[:]...)
}

func (t *tx) key(ino uint64, e *extent) {
	t.kind(editKey, ino, e.at, uint64(e.key)<<32|uint64(e.seals), e.version)
	e.recorded = true
}

func (t *tx) xattr(ino uint64, x *xattr) {
	t.kind(editXattr, ino, uint64(x.key), x.version, uint64(x.size))
	t.string(x.name)
	for i := range x.blocks {
		t.buf = appendSealed(t.buf, &x.blocks[i])
	}
}

func (t *tx) unxattr(ino uint64, name string) {
	t.kind(editUnxattr, ino)
	t.string(name)
}

func (t *tx) unxattrs(ino uint64) { t.kind(editUnxattrs, ino) }

func (t *tx) done(d done, slot int) {
	t.kind(editDone, uint64(slot), d.unique, uint64(d.errno), d.value)
}

// stage seals what has gathered if it has grown long.
func (t *tx) stage() {
	if len(t.buf) >= stageAt {
		t.seal()
	}
}

func (t *tx) seal() {
	if err := t.s.mem.Log.Stage(&t.group, t.buf); err != nil {
		// room made sure of it; the index is rebuilt from what is committed.
		panic("internal error: " + err.Error())
	}
	t.buf = t.buf[:0]
}

// inodeEdit and keyEdit are how long an encoded inode is, and the key of an extent.
const (
	inodeEdit = 1 + 8*12 + 4*9
	keyEdit   = 1 + 8*4
)

// commit makes the operation durable. Nothing of it may fail any more.
func (t *tx) commit() {
	for _, n := range t.dirty {
		t.buf = appendInode(t.buf, n)
		t.stage()
	}
	crypt.Point("changed")
	t.seal()
	crypt.Point("staged")
	t.s.mem.Log.Commit(&t.group)
	crypt.Point("committed")
	for _, k := range t.keys {
		t.s.mem.Keys.Erase(k)
	}
	crypt.Point("keys erased")
	if len(t.cells) > freeAtOnce {
		t.s.leave(t.cells)
		t.cells = nil
	}
	for _, c := range t.cells {
		t.s.mem.Arena.Free(c)
	}
	crypt.Point("cells freed")
	t.reset()
}

func (t *tx) reset() {
	clear(t.dirty) // they may be dropped inodes
	t.buf, t.dirty, t.cells, t.keys = t.buf[:0], t.dirty[:0], t.cells[:0], t.keys[:0]
	t.group = crypt.Group{}
}

// appendInode encodes an inode. The last two fields are for an expiry and the
// one who read the contents last.
func appendInode(b []byte, n *inode) []byte {
	le := binary.LittleEndian
	b = append(b, editInode)
	b = le.AppendUint64(b, n.ino)
	for _, v := range []uint32{n.mode, n.uid, n.gid, n.rdev, n.nlink} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint64(b, uint64(n.size))
	for _, t := range []stamp{n.atime, n.mtime, n.ctime, n.btime} {
		b = le.AppendUint64(b, uint64(t.sec))
		b = le.AppendUint32(b, t.nsec)
	}
	b = le.AppendUint64(b, n.lookups)
	b = le.AppendUint64(b, uint64(n.grace))
	var parent, next uint64
	if n.dir != nil {
		parent, next = n.dir.parent, n.dir.next
	}
	b = le.AppendUint64(b, parent)
	b = le.AppendUint64(b, next)
	b = le.AppendUint64(b, 0) // expiry
	b = le.AppendUint64(b, 0) // last reader
	return b
}

// done is the recorded result of a request: answered again, it is the same.
type done struct {
	unique uint64
	errno  unix.Errno
	value  uint64 // a count, or the inode that the reply names
}

// room makes sure that an operation changing up to blocks block entries can be
// recorded. It runs before anything is changed: it may write a checkpoint.
func (s *Server) room(blocks int) unix.Errno {
	need := blocks*blockEdit + 64<<10
	need += need / 8
	if s.readOnly != "" || s.mem.Log.Room(need) && !s.mem.Log.Worth() {
		return 0
	}
	if !s.tx.empty() {
		panic("internal error: checkpoint inside an operation")
	}
	if err := s.mem.Log.Compact(s.checkpoint); err != nil || !s.mem.Log.Room(need) {
		return unix.ENOSPC // the log is laid out for more than there can be
	}
	return 0
}

// checkpoint writes the whole index, many inodes to a record.
func (s *Server) checkpoint(emit func([]byte) error) error {
	t := tx{s: s, buf: s.tx.buf[:0]}
	flush := func(limit int) error {
		if len(t.buf) <= limit {
			return nil
		}
		err := emit(t.buf)
		t.buf = t.buf[:0]
		return err
	}
	const most = 32 << 10
	t.kind(editNext, s.nextIno, s.nextVersion)
	for slot, d := range s.done {
		t.done(d, slot)
	}
	for _, n := range s.inodes {
		t.buf = appendInode(t.buf, n)
		if n.isSymlink() {
			t.target(n)
		}
		for i := range n.data.extents {
			t.key(n.ino, &n.data.extents[i])
			if err := flush(most); err != nil {
				return err
			}
		}
		for part := range slices.Chunk(n.data.blocks, most/blockEdit) {
			t.blocks(n.ino, part)
			if err := flush(most); err != nil {
				return err
			}
		}
		if n.xattrs != nil {
			for i := range n.xattrs.list {
				t.xattr(n.ino, &n.xattrs.list[i])
				if err := flush(most); err != nil {
					return err
				}
			}
		}
		if err := flush(most); err != nil {
			return err
		}
	}
	for _, n := range s.inodes {
		if n.dir == nil {
			continue
		}
		for _, e := range n.dir.order {
			if e != nil {
				t.name(n.ino, e)
				if err := flush(most); err != nil {
					return err
				}
			}
		}
	}
	err := flush(0)
	s.tx.buf = t.buf
	return err
}
