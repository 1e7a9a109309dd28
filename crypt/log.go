package crypt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// FormatVersion is the version of everything in the arena. A process refuses
// to attach to another one's.
const FormatVersion = 2

const (
	superMagic = 0x31534e454b4f54 // "TOKENS1"

	// Offsets in page 0 of the arena.
	superVersion = 8
	superGen     = 16  // which superblock and which half count: generation & 1
	superOff     = 128 // two sealed superblocks
	superStride  = 128
	superLen     = 16 // generation, format version

	// A frame: commit word, nonce, padding, ciphertext and tag, padding to 8.
	// The commit word is stored last: a frame is there whole or not at all.
	frameHead   = 24
	frameCommit = 1 << 63

	compactAt = 1 << 20 // a log shorter than this is never worth compacting
)

// MaxRecord is the longest record in bytes.
const MaxRecord = 1 << 20

// ErrLogFull means that a record does not fit even after compaction.
var ErrLogFull = errors.New("log full")

// Log is a sequence of sealed records in one of two halves of the arena.
// Compaction writes what still counts into the other half and switches over
// by one atomic store.
type Log struct {
	r      *region
	layout layout
	keys   *Keyring
	nonces noncePool
	gen    uint64
	seq    uint64
	end    int64 // where the next frame goes, relative to its half
	base   int64 // where the last checkpoint ended
	seals  uint64
	aad    [16 + 2*8]byte
	buf    []byte // an opened record: metadata, never contents
}

func newLog(r *region, l layout, k *Keyring) *Log {
	return &Log{r: r, layout: l, keys: k}
}

func (l *Log) half() int { return int(l.gen & 1) }

func (l *Log) area(half int) []byte {
	from := pageSize + int64(half)*l.layout.logSize
	return l.r.mem[from : from+l.layout.logSize : from+l.layout.logSize]
}

func (l *Log) bind(gen, n uint64) []byte {
	copy(l.aad[:16], l.keys.session16())
	binary.LittleEndian.PutUint64(l.aad[16:], gen)
	binary.LittleEndian.PutUint64(l.aad[24:], n)
	return l.aad[:]
}

// reset starts an empty log in zeroed memory under fresh keys.
func (l *Log) reset() {
	l.gen, l.seq, l.end, l.base, l.seals = 0, 0, 0, 0, 0
	binary.LittleEndian.PutUint64(l.r.mem, superMagic)
	binary.LittleEndian.PutUint64(l.r.mem[superVersion:], FormatVersion)
	l.keys.freshLogKey(0)
	l.keys.eraseLogKey(1)
	l.publish()
	Point("wipe: log empty")
}

// publish seals the superblock of the current generation and makes it count.
func (l *Log) publish() {
	var plain [superLen]byte
	var nonce [NonceSize]byte
	binary.LittleEndian.PutUint64(plain[:], l.gen)
	binary.LittleEndian.PutUint64(plain[8:], FormatVersion)
	l.nonces.next(&nonce)
	at := l.r.mem[superOff+l.half()*superStride:]
	copy(at, nonce[:])
	l.keys.session.seal(at[NonceSize:NonceSize:superStride], nonce[:], plain[:], l.bind(l.gen, 0))
	Point("superblock sealed")
	atomic.StoreUint64(l.r.word(superGen), l.gen)
}

func frameSize(record int) int64 {
	return int64(frameHead+record+TagSize+7) &^ 7
}

// Room says whether a record of n bytes fits now.
func (l *Log) Room(n int) bool {
	return l.end+frameSize(n)+8 <= l.layout.logSize
}

// Worth says whether compaction would pay: the log has grown well past its
// last checkpoint, or its key has sealed enough.
func (l *Log) Worth() bool {
	return l.end > compactAt+2*l.base || l.seals > maxSeals
}

// maxSeals bounds what one key seals under random nonces: the chance that two
// of 2^28 nonces of 96 bits are equal is 2^-41 (NIST SP 800-38D, 8.3, allows 2^-32).
const maxSeals = 1 << 28

// Group is a run of records that count together or not at all.
type Group struct {
	first *uint64 // commit word of the first frame, stored by Commit
	word  uint64
}

// Open says whether anything is staged.
func (g *Group) Open() bool { return g.first != nil }

// Stage seals a record behind the others without committing it.
func (l *Log) Stage(g *Group, record []byte) error {
	commit, word, err := l.put(record)
	if err != nil {
		return err
	}
	if g.first == nil {
		g.first, g.word = commit, word // a log ends where a commit word is missing
	} else {
		atomic.StoreUint64(commit, word)
	}
	return nil
}

// Commit makes everything staged count: from here on it survives this process.
func (l *Log) Commit(g *Group) { atomic.StoreUint64(g.first, g.word) }

// Append stages and commits one record.
func (l *Log) Append(record []byte) error {
	commit, word, err := l.put(record)
	if err == nil {
		atomic.StoreUint64(commit, word)
		Point("checkpoint: record committed")
	}
	return err
}

func (l *Log) put(record []byte) (commit *uint64, word uint64, err error) {
	if len(record) > MaxRecord || !l.Room(len(record)) {
		return nil, 0, ErrLogFull
	}
	from := pageSize + int64(l.half())*l.layout.logSize
	frame := l.area(l.half())[l.end:]
	nonce := frame[8 : 8+NonceSize]
	l.nonces.next((*[NonceSize]byte)(nonce))
	ct := l.keys.logs[l.half()].seal(frame[frameHead:frameHead], nonce, record, l.bind(l.gen, l.seq))
	commit = l.r.word(int(from + l.end))
	word = frameCommit | uint64(len(ct))<<32 | l.seq&0xffffffff
	l.end += frameSize(len(record))
	l.seq++
	l.seals++
	Point("record sealed")
	return commit, word, nil
}

// Compact replaces the log by what write emits: the caller's whole state. The
// state before it counts until the last record is in place.
func (l *Log) Compact(write func(emit func(record []byte) error) error) error {
	old := *l
	l.gen++
	l.seq, l.end, l.seals = 0, 0, 0
	l.wipeHalf(l.half())
	l.keys.freshLogKey(l.half())
	Point("checkpoint: begun")
	if err := write(l.Append); err != nil {
		l.gen, l.seq, l.end, l.seals = old.gen, old.seq, old.end, old.seals
		l.wipeHalf(1 - l.half())
		l.keys.eraseLogKey(1 - l.half())
		return err
	}
	l.base = l.end
	Point("checkpoint: written")
	l.publish()
	Point("checkpoint: switched")
	l.keys.eraseLogKey(1 - l.half())
	Point("checkpoint: old key gone")
	l.wipeHalf(1 - l.half())
	Point("checkpoint: old half gone")
	return nil
}

// wipeHalf zeroes a half and gives its memory back.
func (l *Log) wipeHalf(half int) {
	from := pageSize + int64(half)*l.layout.logSize
	l.r.punch(from, from+l.layout.logSize)
}

// ErrDamaged means that a record before the last did not authenticate. What
// Replay applied until then is sound; what came after is lost.
var ErrDamaged = errors.New("the log is damaged")

// Replay gives every committed record to apply, in order, and leaves the log
// ready for appending. A last record that does not authenticate ends the log
// (cut is true); any other ends it with ErrDamaged.
func (l *Log) Replay(apply func(record []byte) error) (cut bool, err error) {
	if v := binary.LittleEndian.Uint64(l.r.mem[superVersion:]); binary.LittleEndian.Uint64(l.r.mem) != superMagic || v != FormatVersion {
		return false, fmt.Errorf("the arena has format %d, this version reads %d", v, FormatVersion)
	}
	l.gen = atomic.LoadUint64(l.r.word(superGen))
	if err := l.checkSuper(); err != nil {
		return false, err
	}
	l.wipeHalf(1 - l.half())
	l.keys.resumeLogKey(l.half())
	l.seq, l.end, l.base, l.seals = 0, 0, 0, 0
	for {
		record, size, state := l.next()
		switch state {
		case frameNone:
			l.cutTail()
			return false, nil
		case frameBad:
			if l.last(size) {
				l.cutTail()
				return true, nil
			}
			return false, ErrDamaged
		}
		if err := apply(record); err != nil {
			return false, err
		}
		l.end += size
		l.seq++
		l.seals++
	}
}

func (l *Log) checkSuper() error {
	at := l.r.mem[superOff+l.half()*superStride:]
	plain, err := l.keys.session.open(nil, at[:NonceSize], at[NonceSize:NonceSize+superLen+TagSize], l.bind(l.gen, 0))
	if err != nil || binary.LittleEndian.Uint64(plain) != l.gen || binary.LittleEndian.Uint64(plain[8:]) != FormatVersion {
		return fmt.Errorf("the arena's superblock: %w", ErrSealed)
	}
	return nil
}

const (
	frameNone = iota
	frameGood
	frameBad
)

// next opens the frame at end without moving past it.
func (l *Log) next() (record []byte, size int64, state int) {
	area := l.area(l.half())
	if l.end+frameHead > l.layout.logSize {
		return nil, 0, frameNone
	}
	commit := binary.LittleEndian.Uint64(area[l.end:])
	if commit == 0 {
		return nil, 0, frameNone
	}
	n := int64(commit >> 32 & 0x7fffffff)
	if commit&frameCommit == 0 || n < TagSize || n > MaxRecord+TagSize || uint32(commit) != uint32(l.seq) || l.end+frameHead+n > l.layout.logSize {
		return nil, 0, frameBad
	}
	size = frameSize(int(n) - TagSize)
	frame := area[l.end : l.end+frameHead+n]
	var err error
	l.buf, err = l.keys.logs[l.half()].open(l.buf[:0], frame[8:8+NonceSize], frame[frameHead:], l.bind(l.gen, l.seq))
	if err != nil {
		return nil, size, frameBad
	}
	return l.buf, size, frameGood
}

// last says whether nothing follows a bad frame of the given size (0: unknown).
func (l *Log) last(size int64) bool {
	area := l.area(l.half())
	if size == 0 || l.end+size+8 > l.layout.logSize {
		return false
	}
	return binary.LittleEndian.Uint64(area[l.end+size:]) == 0
}

// cutTail zeroes what lies behind the end: frames of a group that was never
// committed would count again once a new frame took the place of its first.
func (l *Log) cutTail() {
	from := pageSize + int64(l.half())*l.layout.logSize
	page := (l.end + pageSize - 1) &^ (pageSize - 1)
	clear(l.r.mem[from+l.end : from+page])
	l.r.punch(from+page, from+l.layout.logSize)
}
