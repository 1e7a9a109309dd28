package crypt

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// BlockSize is the most plaintext that one seal covers. Sealed blocks lie in
// cells of the same size: nonce and tag are kept by whoever refers to the cell.
const BlockSize = 4096

// TagSize and NonceSize are AES-256-GCM's (NIST SP 800-38D).
const (
	TagSize   = 16
	NonceSize = 12
)

// ErrSealed means that a block or record did not authenticate: the memory was
// altered, or the key is gone.
var ErrSealed = errors.New("sealed data does not authenticate")

// Sealed refers to one sealed block. The zero value refers to none.
type Sealed struct {
	Cell  uint32
	Len   uint16 // bytes of plaintext, 1 to BlockSize
	Nonce [NonceSize]byte
	Tag   [TagSize]byte
}

// Place is what a block is bound to beside its key: it opens nowhere else.
type Place struct {
	Owner, Version, Index uint64
}

// layout says where things lie in the arena's memfd:
//
//	page 0   superblock
//	log A, log B: each logSize
//	cells
type layout struct {
	logSize  int64
	cellsOff int64
	cells    int
	size     int64
}

func layoutFor(cfg MemoryConfig) layout {
	const align = 1 << 20
	cells := int((cfg.Quota+cfg.Spare)/BlockSize) + 1
	// A checkpoint and the records that follow it until the next one.
	logSize := (2*cfg.Meta + 8<<20 + align - 1) &^ (align - 1)
	l := layout{logSize: logSize, cells: cells}
	l.cellsOff = pageSize + 2*logSize
	l.size = l.cellsOff + int64(cells)*BlockSize
	return l
}

// Arena holds sealed blocks in cells of a memfd.
type Arena struct {
	r      *region
	layout layout
	keys   *Keyring
	used   bitmap
	nonces noncePool
	aad    [16 + 3*8]byte
	// scratch holds ciphertext while a block is sealed or opened. It is cleared
	// after: it is on the heap, and would outlive its cell and a wipe.
	scratch [BlockSize + TagSize]byte
}

func newArena(r *region, l layout, k *Keyring) *Arena {
	a := &Arena{r: r, layout: l, keys: k}
	a.used.set(0) // cell 0 is no cell
	return a
}

func (a *Arena) cell(c uint32) []byte {
	off := a.layout.cellsOff + int64(c)*BlockSize
	return a.r.mem[off : off+BlockSize : off+BlockSize]
}

func (a *Arena) bind(p Place) []byte {
	copy(a.aad[:16], a.keys.session16())
	binary.LittleEndian.PutUint64(a.aad[16:], p.Owner)
	binary.LittleEndian.PutUint64(a.aad[24:], p.Version)
	binary.LittleEndian.PutUint64(a.aad[32:], p.Index)
	return a.aad[:]
}

// Seal encrypts plaintext, 1 to BlockSize bytes of locked memory, into a free
// cell. ok is false when there is none.
func (a *Arena) Seal(key Key, p Place, plaintext []byte, s *Sealed) (ok bool) {
	c := a.used.firstFree()
	if c >= a.layout.cells {
		return false
	}
	a.used.set(c)
	s.Cell, s.Len = uint32(c), uint16(len(plaintext))
	a.nonces.next(&s.Nonce)
	ct := a.keys.state(key).seal(a.scratch[:0], s.Nonce[:], plaintext, a.bind(p))
	copy(a.cell(s.Cell), ct[:len(plaintext)])
	copy(s.Tag[:], ct[len(plaintext):])
	clear(ct)
	Point("sealed")
	return true
}

// Expect makes memory present for n blocks that will be sealed next: for many
// that takes half the time of a page fault for each.
func (a *Arena) Expect(n int) {
	const worth = 16
	c := a.used.firstFree()
	if n < worth || c < keepGroups*groupCells {
		return
	}
	from := a.layout.cellsOff + int64(c)*BlockSize
	to := min(from+int64(n)*BlockSize, a.layout.size)
	if from < to {
		// Where it fails, pages come one by one as they are touched.
		unix.Madvise(a.r.mem[from:to], unix.MADV_POPULATE_WRITE)
	}
}

// Open decrypts a block into dst, locked memory of at least s.Len bytes.
func (a *Arena) Open(key Key, p Place, s *Sealed, dst []byte) error {
	n := copy(a.scratch[:], a.cell(s.Cell)[:s.Len])
	copy(a.scratch[n:], s.Tag[:])
	defer clear(a.scratch[:n+TagSize])
	if _, err := a.keys.state(key).open(dst[:0], s.Nonce[:], a.scratch[:n+TagSize], a.bind(p)); err != nil {
		return ErrSealed
	}
	return nil
}

// groupCells is how many cells are punched out together: 256 KiB, one word of
// the bitmap. The first groups stay, so that small files cost no fault.
const (
	groupCells = 64
	keepGroups = 4
)

// Free zeroes a cell for the next user.
func (a *Arena) Free(c uint32) {
	if c == 0 {
		return
	}
	clear(a.cell(c))
	a.used.unset(int(c))
	if g := int(c) / groupCells; g >= keepGroups && a.used.words[g] == 0 {
		a.r.giveBack(a.groups(g, g+1)) // cells that are not in use are zero
	}
}

// Reclaim forgets which cells are in use: the caller claims them anew.
func (a *Arena) Reclaim() {
	a.used.reset()
	a.used.set(0)
}

// Cells is how many cells there are.
func (a *Arena) Cells() int { return a.layout.cells }

// Claim marks a cell as in use after AttachMemory; false if it cannot be.
func (a *Arena) Claim(c uint32) bool {
	if int(c) >= a.layout.cells || c == 0 || a.used.has(int(c)) {
		return false
	}
	a.used.set(int(c))
	return true
}

// Sweep erases every cell that nobody claimed.
func (a *Arena) Sweep() {
	for g, word := range a.used.words {
		if a.r.step != nil {
			a.r.step()
		}
		if word == 0 {
			a.r.punch(a.groups(g, g+1))
			continue
		}
		for i := range groupCells {
			if c := g*groupCells + i; c < a.layout.cells && word&(1<<i) == 0 {
				clear(a.cell(uint32(c)))
			}
		}
	}
	a.r.punch(a.groups(len(a.used.words), a.layout.cells/groupCells+1))
}

// groups is where the groups from first up to end lie.
func (a *Arena) groups(first, end int) (from, to int64) {
	at := func(g int) int64 { return min(a.layout.cellsOff+int64(g)*groupCells*BlockSize, a.layout.size) }
	return at(first), at(end)
}

func (a *Arena) reset() {
	a.used.reset()
	a.used.set(0)
	a.r.erase()
	Point("wipe: arena empty")
}

// noncePool draws random nonces many at a time. Those lost in a crash are lost:
// a nonce is never drawn twice.
type noncePool struct {
	buf  [NonceSize * 256]byte
	left int
}

func (p *noncePool) next(n *[NonceSize]byte) {
	if p.left == 0 {
		getrandom(p.buf[:])
		p.left = len(p.buf)
	}
	p.left -= NonceSize
	copy(n[:], p.buf[p.left:])
}
