package crypt

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
)

// FormatVersion is the version of everything in a Memory. A process refuses to
// attach to another one's.
const FormatVersion = 3

const (
	superMagic = 0x31534e454b4f54 // "TOKENS1"

	// Offsets in page 0 of the arena.
	superVersion = 8
	superGen     = 16  // the generation that counts; its half is generation & 1
	superOff     = 128 // two sealed superblocks
	superStride  = 128
	superLen     = 16 // generation, format version

	// A frame: head, nonce, padding, ciphertext and tag, padding to 8. The head
	// tells a frame's length, the low bits of its number, and whether others of
	// its group follow; the tag covers the latter two.
	frameHead  = 24
	frameThere = 1 << 63
	frameMore  = 1 << 62
	frameLen   = 1<<30 - 1

	compactAt = 1 << 20 // a log shorter than this is never worth compacting
)

// MaxRecord is the longest record in bytes.
const MaxRecord = 1 << 20

// ErrLogFull means that a record does not fit even after compaction.
var ErrLogFull = errors.New("log full")

// Log is a sequence of sealed records in one of two halves of the arena. How
// many of them count, and in which half, stands in the key region: nothing that
// happens to the arena can make a record count that was not committed, or take
// one back unnoticed.
type Log struct {
	r      *region
	layout layout
	keys   *Keyring
	nonces noncePool
	half            // the one that counts
	base   int64    // where its checkpoint ended
	next   *half    // of a checkpoint that is being written
	stale  struct { // of the other half, which has no key any more
		at, end int64
	}
	aad [16 + 2*8]byte
	buf []byte // an opened record: metadata, never contents
}

// half is how far one of the two has got.
type half struct {
	gen   uint64
	seq   uint64 // the number of the next record
	end   int64  // where its frame goes, relative to the half
	seals uint64
}

func (h *half) side() int { return int(h.gen & 1) }

func newLog(r *region, l layout, k *Keyring) *Log {
	return &Log{r: r, layout: l, keys: k}
}

// start is where a half begins in the arena.
func (l *Log) start(side int) int64 { return pageSize + int64(side)*l.layout.logSize }

func (l *Log) area(side int) []byte {
	from := l.start(side)
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
	l.half, l.base, l.next = half{}, 0, nil
	l.stale.at, l.stale.end = 0, 0
	l.keys.freshLogKey(0)
	l.keys.eraseLogKey(1)
	l.keys.setCount(0, 0)
	l.keys.setCount(1, 0)
	l.keys.setFormat(FormatVersion)
	l.keys.setGeneration(0)
	l.sealSuper(0)
	l.markSuper(0)
	Point("wipe: log empty")
}

// The superblock says what the key region says, for whoever finds the arena
// alone, and tells by what it has become when the arena was altered.

// sealSuper writes the superblock of a generation.
func (l *Log) sealSuper(gen uint64) {
	var plain [superLen]byte
	var nonce [NonceSize]byte
	binary.LittleEndian.PutUint64(plain[:], gen)
	binary.LittleEndian.PutUint64(plain[8:], FormatVersion)
	l.nonces.next(&nonce)
	at := l.super(gen)
	copy(at, nonce[:])
	l.keys.session.seal(at[NonceSize:NonceSize:superStride], nonce[:], plain[:], l.bind(gen, 0))
	Point("superblock sealed")
}

// markSuper says in the clear which superblock counts.
func (l *Log) markSuper(gen uint64) {
	binary.LittleEndian.PutUint64(l.r.mem, superMagic)
	binary.LittleEndian.PutUint64(l.r.mem[superVersion:], FormatVersion)
	atomic.StoreUint64(l.r.word(superGen), gen)
}

func (l *Log) super(gen uint64) []byte { return l.r.mem[superOff+int(gen&1)*superStride:] }

// superIs says whether the superblock is that of a generation. A process that
// ended while it switched left it unmarked.
func (l *Log) superIs(gen uint64) bool {
	le, at := binary.LittleEndian, l.super(gen)
	plain, err := l.keys.session.open(nil, at[:NonceSize], at[NonceSize:NonceSize+superLen+TagSize], l.bind(gen, 0))
	if err != nil || le.Uint64(plain) != gen || le.Uint64(plain[8:]) != FormatVersion {
		return false
	}
	marked := le.Uint64(l.r.mem[superGen:])
	return le.Uint64(l.r.mem) == superMagic && le.Uint64(l.r.mem[superVersion:]) == FormatVersion && (marked == gen || marked+1 == gen)
}

func frameSize(record int) int64 {
	return int64(frameHead+record+TagSize+7) &^ 7
}

// Room says whether records of n bytes fit now, in the checkpoint that is being
// written, too.
func (l *Log) Room(n int) bool {
	fits := func(h *half) bool { return h.end+frameSize(n)+8 <= l.layout.logSize }
	return fits(&l.half) && (l.next == nil || fits(l.next))
}

// Worth says whether a checkpoint would pay: the log has grown well past its
// last one, or its key has sealed enough.
func (l *Log) Worth() bool {
	return l.end > compactAt+2*l.base || l.seals > maxSeals
}

// maxSeals bounds what one key seals under random nonces: the chance that two
// of 2^28 nonces of 96 bits are equal is 2^-41 (NIST SP 800-38D, 8.3, allows 2^-32).
const maxSeals = 1 << 28

// Stage seals a record behind the others. It counts once Commit is called, with
// all others of its group or not at all; more says that some follow.
func (l *Log) Stage(record []byte, more bool) error { return l.put(&l.half, record, more) }

// Commit makes everything staged count: from here on it survives this process.
func (l *Log) Commit() { l.keys.setCount(l.side(), l.seq) }

// Staged says whether anything is staged and not committed.
func (l *Log) Staged() bool { return l.seq != l.keys.count(l.side()) }

// Append stages and commits one record.
func (l *Log) Append(record []byte) error {
	err := l.Stage(record, false)
	if err == nil {
		l.Commit()
	}
	return err
}

func (l *Log) put(h *half, record []byte, more bool) error {
	if len(record) > MaxRecord || h.end+frameSize(len(record))+8 > l.layout.logSize {
		return ErrLogFull
	}
	frame := l.area(h.side())[h.end:]
	nonce := frame[8 : 8+NonceSize]
	l.nonces.next((*[NonceSize]byte)(nonce))
	ct := l.keys.logs[h.side()].seal(frame[frameHead:frameHead], nonce, record, l.bind(h.gen, numberOf(h.seq, more)))
	head := frameThere | uint64(len(ct))<<32 | h.seq&0xffffffff
	if more {
		head |= frameMore
	}
	binary.LittleEndian.PutUint64(frame, head)
	h.end += frameSize(len(record))
	h.seq++
	h.seals++
	Point("record sealed")
	return nil
}

// numberOf is what a record is bound to beside its generation.
func numberOf(seq uint64, more bool) uint64 {
	if more {
		return seq<<1 | 1
	}
	return seq << 1
}

// wipeHalf zeroes a half and gives its memory back.
func (l *Log) wipeHalf(side int) {
	from := l.start(side)
	l.r.punch(from, from+l.layout.logSize)
}
