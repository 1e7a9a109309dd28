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
	editTarget              // ino, key, version, sealed target of a symlink
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
	editDone                // 0, slot, unique, errno, value: this request was served
	editNext                // 0, next inode number, next key version
	editVersion             // ino, that of its file, handle, thread, owner, flags: a version
)

// blockEdit is an encoded block: index, cell, length, nonce, tag.
const blockEdit = 8 + 4 + 2 + crypt.NonceSize + crypt.TagSize

// tx gathers what an operation changed. The index is changed first, under the
// server's lock; commit makes it durable; what became free is reused only then.
type tx struct {
	s     *Server
	buf   []byte
	marks []mark   // of the edits in buf, while a checkpoint is written
	dirty []*inode // to be written by commit, once each
	cells []uint32
	keys  []crypt.Key
}

// stageAt is how long a record gets before it is staged: a long change is
// several records that count together or not at all.
const stageAt = crypt.MaxRecord / 2

func (t *tx) empty() bool {
	return len(t.buf) == 0 && len(t.dirty) == 0 && !t.s.mem.Log.Staged()
}

// put writes the inode's fields when the operation is committed.
func (t *tx) put(n *inode) {
	if !n.dirty {
		n.dirty = true
		t.dirty = append(t.dirty, n)
	}
}

// write writes the inode's fields as they are: at once for a new one, which other
// edits of the operation refer to.
func (t *tx) write(n *inode) {
	t.mark(n.ino)
	t.buf = appendInode(t.buf, n)
}

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

// kind begins an edit. Its first argument is the inode that it is about.
func (t *tx) kind(k byte, args ...uint64) {
	t.mark(args[0])
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
	t.kind(editTarget, n.ino, uint64(n.target.key), n.target.version)
	t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(len(n.target.sealed)))
	t.buf = append(t.buf, n.target.sealed...)
}

func (t *tx) drop(n *inode) {
	n.dirty = false
	t.kind(editDrop, n.ino)
}

// version follows the inode that holds it.
func (t *tx) version(v *version) {
	t.kind(editVersion, v.ino, v.of.ino, v.fh, uint64(v.thread), v.owner, v.flags)
}

// content writes all that an inode holds.
func (t *tx) content(n *inode) {
	for i := range n.data.extents {
		t.key(n.ino, &n.data.extents[i])
	}
	t.blocks(n.ino, n.data.blocks)
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
	t.kind(editDone, noInode, uint64(slot), d.unique, uint64(d.errno), d.value)
}

func (t *tx) next() { t.kind(editNext, noInode, t.s.nextIno, t.s.nextVersion) }

// noInode stands in edits that are about none.
const noInode = 0

// stage seals what has gathered if it has grown long.
func (t *tx) stage() {
	if len(t.buf) >= stageAt {
		t.seal(true)
	}
}

func (t *tx) seal(more bool) {
	err := t.s.mem.Log.Stage(t.buf, more)
	if err == nil {
		err = t.s.alsoInCheckpoint(t)
	}
	if err != nil {
		// room made sure of it; the index is rebuilt from what is committed.
		panic("internal error: " + err.Error())
	}
	t.buf, t.marks = t.buf[:0], t.marks[:0]
}

// inodeEdit and keyEdit are how long an encoded inode is, and the key of an extent.
const (
	inodeEdit = 1 + 8*13 + 4*9
	keyEdit   = 1 + 8*4
)

// commit makes the operation durable. Nothing of it may fail any more.
func (t *tx) commit() {
	for _, n := range t.dirty {
		if n.dirty {
			t.write(n)
			t.stage()
		}
	}
	crypt.Point("changed")
	t.seal(false)
	crypt.Point("staged")
	t.s.mem.Log.Commit()
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
	for _, n := range t.dirty {
		n.dirty = false
	}
	clear(t.dirty) // they may be dropped inodes
	t.buf, t.marks, t.dirty, t.cells, t.keys = t.buf[:0], t.marks[:0], t.dirty[:0], t.cells[:0], t.keys[:0]
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
	b = le.AppendUint64(b, n.data.id)
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
