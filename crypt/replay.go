package crypt

import (
	"encoding/binary"
	"fmt"
)

// Damage is what a replay found altered in the arena.
type Damage struct {
	Superblock bool   // put right: nothing is lost
	Checkpoint bool   // given up for the log before it: nothing is lost
	Lost       uint64 // records at the end that were committed, and count no more
	Of         uint64 // so many
}

// Replay gives every committed record to apply, in order, and leaves the log
// ready for appending. It calls begin first, and again if what was applied is to
// be forgotten: a group of records counts whole or not at all. Where a record
// does not authenticate, the log ends; what is lost by that the key region knows.
func (l *Log) Replay(begin func(), apply func(record []byte) error) (found Damage, err error) {
	if v := l.keys.format(); v != FormatVersion {
		return found, fmt.Errorf("the memory has format %d, this version reads %d", v, FormatVersion)
	}
	newest := l.keys.generation()
	found.Superblock = !l.superIs(newest)
	if found.Of, found.Lost, err = l.replay(newest, begin, apply); err != nil {
		return found, err
	}
	if found.Lost > 0 && l.replaced(newest) {
		// Whoever switched ended before anything else was committed.
		_, lost, err := l.replay(newest-1, begin, apply)
		if err == nil && lost == 0 {
			found.Checkpoint, found.Lost = true, 0
			l.keys.setGeneration(l.gen)
			found.Superblock = !l.superIs(l.gen)
		} else if _, _, err = l.replay(newest, begin, apply); err != nil {
			return found, err
		}
	}
	// Only now is it known that this half is the one.
	l.keys.eraseLogKey(1 - l.side())
	l.keys.setCount(1-l.side(), 0)
	l.wipeHalf(1 - l.side())
	if found.Lost == 0 {
		l.cutTail()
	}
	if found.Superblock {
		l.sealSuper(l.gen)
	}
	l.markSuper(l.gen)
	return found, nil
}

// replaced says whether the log that the checkpoint of a generation replaced is
// still there: it has its key until the switch is done.
func (l *Log) replaced(gen uint64) bool {
	side := int(gen&1) ^ 1
	return gen > 0 && l.keys.count(side) > 0 && l.keys.hasLogKey(side)
}

// replay applies one generation, and says how many records there are and how
// many of them are lost.
func (l *Log) replay(gen uint64, begin func(), apply func(record []byte) error) (count, lost uint64, err error) {
	l.half, l.base, l.next = half{gen: gen}, 0, nil
	l.stale.at, l.stale.end = 0, 0
	l.keys.resumeLogKey(l.side())
	count = l.keys.count(l.side())
	begin()
	whole := l.half // behind the last record that ended a group
	for l.seq < count {
		record, more, ok := l.open()
		if !ok {
			break
		}
		if err := apply(record); err != nil {
			return count, 0, err
		}
		if !more {
			whole = l.half
		}
	}
	if l.seq == whole.seq {
		return count, count - whole.seq, nil
	}
	l.half = half{gen: gen}
	begin()
	for l.seq < whole.seq {
		record, _, ok := l.open()
		if !ok {
			return count, 0, ErrSealed // it was not, a moment ago
		}
		if err := apply(record); err != nil {
			return count, 0, err
		}
	}
	return count, count - whole.seq, nil
}

// open opens the frame at end and moves past it, unless it was altered.
func (l *Log) open() (record []byte, more, ok bool) {
	area := l.area(l.side())
	if l.end+frameHead > l.layout.logSize {
		return nil, false, false
	}
	head := binary.LittleEndian.Uint64(area[l.end:])
	n := int64(head >> 32 & frameLen)
	if head&frameThere == 0 || n < TagSize || n > MaxRecord+TagSize || uint32(head) != uint32(l.seq) || l.end+frameHead+n > l.layout.logSize {
		return nil, false, false
	}
	more = head&frameMore != 0
	frame := area[l.end : l.end+frameHead+n]
	var err error
	l.buf, err = l.keys.logs[l.side()].open(l.buf[:0], frame[8:8+NonceSize], frame[frameHead:], l.bind(l.gen, numberOf(l.seq, more)))
	if err != nil {
		return nil, false, false
	}
	l.end += frameSize(int(n) - TagSize)
	l.seq++
	l.seals++
	return l.buf, more, true
}

// cutTail zeroes what lies behind the end: frames that were never committed.
func (l *Log) cutTail() {
	from := l.start(l.side())
	page := (l.end + pageSize - 1) &^ (pageSize - 1)
	clear(l.r.mem[from+l.end : from+page])
	l.r.punch(from+page, from+l.layout.logSize)
}
