package fs

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// A checkpoint is the whole index, written to the other half of the log by the
// upkeep, a few inodes at a time, while requests go on. An inode that is in it
// already is changed in it, too: until the checkpoint is complete, the edits of
// every operation that are about such inodes are appended to it as well. An inode
// that is not in it yet gets there as it is by then.
type checkpoint struct {
	inos []uint64 // still to be written, in order
	upTo uint64   // the last one that is
	born uint64   // inodes from here on were made meanwhile, and are in it by their edits
	buf  []byte
}

func (c *checkpoint) has(ino uint64) bool { return ino <= c.upTo || ino >= c.born }

// mark is where an edit begins and which inode it is about.
type mark struct {
	at  int
	ino uint64
}

func (t *tx) mark(ino uint64) {
	if t.s.ckpt != nil {
		t.marks = append(t.marks, mark{len(t.buf), ino})
	}
}

// alsoInCheckpoint appends those of t's edits that are about inodes in it.
func (s *Server) alsoInCheckpoint(t *tx) error {
	c := s.ckpt
	if c == nil {
		return nil
	}
	c.buf = c.buf[:0]
	for i, m := range t.marks {
		end := len(t.buf)
		if i+1 < len(t.marks) {
			end = t.marks[i+1].at
		}
		if c.has(m.ino) {
			c.buf = append(c.buf, t.buf[m.at:end]...)
		}
	}
	if len(c.buf) == 0 {
		return nil
	}
	return s.mem.Log.Checkpoint(c.buf)
}

// checkpointRecord is how much of the index goes into one record.
const checkpointRecord = 32 << 10

// beginCheckpoint is called between operations.
func (s *Server) beginCheckpoint() error {
	if !s.tx.empty() {
		panic("internal error: checkpoint inside an operation")
	}
	s.mem.Log.BeginCheckpoint()
	t := tx{s: s}
	for slot, d := range s.done {
		t.done(d, slot)
	}
	inos := slices.AppendSeq(slices.Collect(maps.Keys(s.inodes)), maps.Keys(s.versions.all))
	slices.Sort(inos)
	s.ckpt = &checkpoint{inos: inos, born: s.nextIno}
	return s.mem.Log.Checkpoint(t.buf)
}

// checkpointStep writes inodes until they take so many bytes, and all of an inode
// at once. It says whether there is more to do; without, the checkpoint counts.
func (s *Server) checkpointStep(size int) (more bool, err error) {
	c := s.ckpt
	t := tx{s: s, buf: c.buf[:0]}
	for written := 0; len(c.inos) > 0 && written < size; c.inos = c.inos[1:] {
		if n := s.holder(c.inos[0]); n != nil {
			bytes, err := s.checkpointInode(&t, n)
			if err != nil {
				return false, err
			}
			written += bytes
		}
		c.upTo = c.inos[0]
	}
	if len(c.inos) == 0 {
		t.next() // what was made and went in the meantime had numbers, too
	}
	if err := t.emit(0); err != nil {
		return false, err
	}
	if c.buf = t.buf; len(c.inos) > 0 {
		return true, nil
	}
	s.mem.Log.Switch()
	s.ckpt = nil
	return false, nil
}

// checkpointInode writes an inode with all that it holds, and says how many
// bytes that took.
func (s *Server) checkpointInode(t *tx, n *inode) (size int, err error) {
	part := func() {
		size += len(t.buf)
		if err == nil {
			err = t.emit(checkpointRecord)
		}
		size -= len(t.buf)
	}
	size = -len(t.buf)
	t.write(n)
	if v := s.versions.all[n.ino]; v != nil {
		t.version(v)
	}
	if n.isSymlink() {
		t.target(n)
	}
	for i := range n.data.extents {
		t.key(n.ino, &n.data.extents[i])
		part()
	}
	for list := range slices.Chunk(n.data.blocks, checkpointRecord/blockEdit) {
		t.blocks(n.ino, list)
		part()
	}
	if n.xattrs != nil {
		for i := range n.xattrs.list {
			t.xattr(n.ino, &n.xattrs.list[i])
			part()
		}
	}
	if n.dir != nil {
		for _, e := range n.dir.order {
			if e != nil {
				t.name(n.ino, e)
				part()
			}
		}
	}
	return size + len(t.buf), err
}

// emit appends what t has gathered to the checkpoint if it is more than limit.
func (t *tx) emit(limit int) error {
	t.marks = t.marks[:0]
	if len(t.buf) <= limit {
		return nil
	}
	t.s.step()
	err := t.s.mem.Log.Checkpoint(t.buf)
	t.buf = t.buf[:0]
	return err
}

// abandonCheckpoint goes on with the log that there is.
func (s *Server) abandonCheckpoint() {
	s.mem.Log.AbandonCheckpoint()
	s.ckpt = nil
}

// compact writes a checkpoint, or the rest of one, at once.
func (s *Server) compact() error {
	if s.ckpt == nil {
		if err := s.beginCheckpoint(); err != nil {
			s.abandonCheckpoint()
			return err
		}
	}
	for more := true; more; {
		var err error
		if more, err = s.checkpointStep(checkpointRecord); err != nil {
			s.abandonCheckpoint()
			return err
		}
	}
	return nil
}

// room makes sure that an operation changing up to blocks block entries can be
// recorded, or one that is as long. It runs before anything is changed.
func (s *Server) room(blocks int) unix.Errno { return s.roomFor(blocks * blockEdit) }

// roomFor does so for size bytes of edits and a few inodes.
func (s *Server) roomFor(size int) unix.Errno {
	if s.readOnly != "" {
		return 0
	}
	if s.ckpt == nil && s.mem.Log.Worth() {
		s.wakeUpkeep()
	}
	need := size + 64<<10
	need += need / 8
	// The upkeep has been too slow. What it has begun may be too long already.
	for range 2 {
		if s.mem.Log.Room(need) {
			return 0
		}
		if err := s.compact(); err != nil {
			s.logf("write a checkpoint: %v", err)
		}
	}
	if !s.mem.Log.Room(need) {
		return unix.ENOSPC // the log is laid out for more than there can be
	}
	return 0
}
