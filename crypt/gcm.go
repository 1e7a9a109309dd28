package crypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"unsafe"
)

// AES-256-GCM with the standard library's code and our memory. Its constructors
// put the expanded key and the GHASH table on the heap, where the collector may
// leave them for ever. So the state is computed where it is to live, and the
// library's methods are called on it there. This is the only file that knows how
// that state is laid out; checkInPlace compares it with what the constructors
// make, and where they differ, keys are set up by the constructors and moved.

// gcmState mirrors the standard library's type behind cipher.NewGCM.
type gcmState struct {
	rounds             int
	enc                [4 * (rounds256 + 1)]uint32
	dec                [4 * (rounds256 + 1)]uint32 // GCM never decrypts a block: stays zero
	nonceSize, tagSize int
	productTable       [8]power
}

// StateSize is the memory that the state of one key takes, in whole cache lines.
const StateSize = (int(unsafe.Sizeof(gcmState{})) + 63) &^ 63

// aead is AES-256-GCM over one place in memory, made once for it and given one
// key after the other. It must not be used by two threads at a time unless the
// key stays. Until the first setKey it has no key, and seal and open panic.
type aead struct {
	mem     []byte
	gcm     cipher.AEAD  // the standard library's, at mem
	block   cipher.Block // the AES inside it, nil where keys cannot be set up in place
	inPlace bool
}

// newAEAD makes an aead that keeps its complete state in mem, which must have
// StateSize bytes at a multiple of 8, outside the Go heap.
func newAEAD(mem []byte) aead {
	a := aeadAt(mem)
	a.inPlace = inPlaceKeys()
	return a
}

func aeadAt(mem []byte) aead {
	if len(mem) < StateSize || uintptr(unsafe.Pointer(&mem[0]))%8 != 0 {
		panic("internal error: memory for AES-GCM is too small or not aligned")
	}
	t := gcmType()
	a := aead{mem: mem[:StateSize:StateSize]}
	a.gcm = reflect.NewAt(t, unsafe.Pointer(&mem[0])).Interface().(cipher.AEAD)
	// Absent with another layout, where keys are not set up in place.
	if f, ok := t.FieldByName("cipher"); ok && f.Offset == 0 {
		a.block, _ = reflect.NewAt(f.Type, unsafe.Pointer(&mem[0])).Interface().(cipher.Block)
	}
	return a
}

// setKey expands key, 32 bytes of locked memory. Where inPlaceKeys is true, no
// run of it or of what it becomes is ever anywhere but in the state.
func (a aead) setKey(key []byte) {
	if len(key) != keySize {
		panic("internal error: AES-256 key of wrong size")
	}
	if Unprotected {
		leaked, _ = standard(key)
	}
	if a.inPlace {
		a.expandInPlace(key)
	} else {
		a.expandAndMove(key)
	}
	overwriteRegisters()
}

// leaked keeps the last key's schedule on the heap in an Unprotected build.
//
//lint:ignore U1000 only the search of memory reads it
var leaked cipher.Block

func (a aead) expandInPlace(key []byte) {
	s := (*gcmState)(unsafe.Pointer(&a.mem[0]))
	s.rounds = rounds256
	s.nonceSize, s.tagSize = NonceSize, TagSize
	expandKey(&s.enc, key)

	// The hash key is the encryption of a block of zeros. It is made where the
	// table's last entry, its first power, will be.
	h := unsafe.Slice((*byte)(unsafe.Pointer(&s.productTable[7])), aes.BlockSize)
	clear(h)
	a.block.Encrypt(h, h)
	fillPowers(&s.productTable)
}

// expandAndMove leaves nothing behind, but key material is on the heap (and on
// the stack, where GCM has no assembly) while it runs.
func (a aead) expandAndMove(key []byte) {
	block, gcm := standard(key)
	copy(a.mem, memoryOf(gcm))
	clear(memoryOf(gcm))
	clear(memoryOf(block))
}

// clear forgets the key.
func (a aead) clear() { clear(a.mem) }

// seal and open are those of cipher.AEAD. They allocate nothing if dst has room.
func (a aead) seal(dst, nonce, plaintext, aad []byte) []byte {
	sealed := a.gcm.Seal(dst, nonce, plaintext, aad)
	wipeStack()
	overwriteRegisters()
	return sealed
}

func (a aead) open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	plaintext, err := a.gcm.Open(dst, nonce, ciphertext, aad)
	wipeStack()
	overwriteRegisters()
	return plaintext, err
}

// wipeStack clears the stack below its caller. GCM's assembly works there with
// counter blocks added to the first round key, which is half of the key to
// whoever knows the nonce.
//
//go:noinline
func wipeStack() {
	var below [1024]byte
	keep(&below)
}

//go:noinline
func keep(*[1024]byte) {}

// standard makes the cipher and the AEAD that relies on it the ordinary way.
func standard(key []byte) (cipher.Block, cipher.AEAD) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return block, gcm
}

// memoryOf returns the memory that the pointer in x points to.
func memoryOf(x any) []byte {
	v := reflect.ValueOf(x)
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
}

// gcmType is the standard library's type. Its values can be moved: they fit
// and hold no pointer, which the collector would not see outside the heap.
var gcmType = sync.OnceValue(func() reflect.Type {
	_, gcm := standard(make([]byte, keySize))
	p := reflect.TypeOf(gcm)
	if p.Kind() != reflect.Pointer || !movable(p.Elem()) || p.Elem().Size() > uintptr(StateSize) {
		panic("internal error: cannot keep this AES-GCM outside the heap: " + p.String())
	}
	return p.Elem()
})

func movable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if !movable(f.Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return movable(t.Elem())
	default:
		return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Complex128
	}
}

// inPlaceKeys reports whether keys are set up without touching heap or stack.
func inPlaceKeys() bool { return inPlaceOnce() == nil }

var inPlaceOnce = sync.OnceValue(checkInPlace)

// hardwareAES says whether AES and GHASH run on instructions of the CPU: without
// them they are slow, and not constant-time (crypto/aes). Which code runs is the
// library's choice and not the CPU's alone, so it is read off what the library
// makes of a key: only the code that uses the instructions keeps the key's bytes
// in their order, and fills a table of powers. It is false where that is not known.
func hardwareAES() bool {
	if sameLayout(reflect.TypeFor[gcmState](), gcmType()) != nil {
		return false
	}
	key := make([]byte, keySize) // thrown away
	for i := range key {
		key[i] = byte(i)
	}
	_, gcm := standard(key)
	s := (*gcmState)(reflect.ValueOf(gcm).UnsafePointer())
	return s.enc[0] == binary.LittleEndian.Uint32(key) && s.productTable != [8]power{}
}

// checkInPlace tells why keys cannot be set up in place, if so: another layout
// or no AES instructions. It uses throw-away keys.
func checkInPlace() error {
	if err := sameLayout(reflect.TypeFor[gcmState](), gcmType()); err != nil {
		return err
	}
	return checkKeys(aead.expandInPlace)
}

// sameLayout compares names, places and sizes of two structs' innermost fields.
func sameLayout(ours, theirs reflect.Type) error {
	if a, b := leaves(ours, 0), leaves(theirs, 0); !slices.Equal(a, b) {
		return fmt.Errorf("AES-GCM has the fields %v in this standard library, not %v", b, a)
	}
	return nil
}

type leaf struct {
	name         string
	offset, size uintptr
}

func leaves(t reflect.Type, at uintptr) (all []leaf) {
	for f := range t.Fields() {
		if f.Type.Kind() == reflect.Struct {
			all = append(all, leaves(f.Type, at+f.Offset)...)
		} else {
			all = append(all, leaf{f.Name, at + f.Offset, f.Type.Size()})
		}
	}
	return all
}

// checkKeys compares the states that expand makes of a few keys with those of
// the constructors, byte for byte, and lets each open what the other sealed.
func checkKeys(expand func(aead, []byte)) error {
	// Throw-away keys may be on the heap; words make the memory aligned.
	words := make([]uint64, StateSize/8)
	a := aeadAt(unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), StateSize))
	if a.block == nil {
		return errors.New("AES-GCM keeps its block cipher elsewhere in this standard library")
	}
	ours := (*gcmState)(unsafe.Pointer(&words[0]))
	key := make([]byte, keySize)
	nonce, aad, text := make([]byte, NonceSize), make([]byte, 20), make([]byte, 300)
	for range 4 {
		for _, b := range [][]byte{key, nonce, aad, text} {
			rand.Read(b)
		}
		_, gcm := standard(key)
		theirs := *(*gcmState)(reflect.ValueOf(gcm).UnsafePointer())
		theirs.dec = ours.dec
		expand(a, key)
		if *ours != theirs {
			return errors.New("AES-GCM keys set up in place differ from the standard library's (no AES instructions?)")
		}
		sealed := a.seal(nil, nonce, text, aad)
		opened, err := gcm.Open(nil, nonce, sealed, aad)
		if err != nil || !bytes.Equal(opened, text) {
			return errors.New("the standard library does not open what AES-GCM sealed in place")
		}
		opened, err = a.open(nil, nonce, gcm.Seal(nil, nonce, text, aad), aad)
		if err != nil || !bytes.Equal(opened, text) {
			return errors.New("AES-GCM in place does not open what the standard library sealed")
		}
	}
	return nil
}
