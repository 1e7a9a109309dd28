package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// expand is FIPS 197's key expansion, for AES-256.
func expand(key []byte) (w [60]uint32) {
	for i := range w {
		if i < 8 {
			w[i] = binary.LittleEndian.Uint32(key[4*i:])
		} else {
			w[i] = w[i-8] ^ scheduleStep(i, w[i-1])
		}
	}
	return w
}

// FIPS 197, A.3.
func TestScheduleStep(t *testing.T) {
	key := []byte{0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77, 0x81,
		0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14, 0xdf, 0xf4}
	w := expand(key)
	var last [4]byte
	binary.LittleEndian.PutUint32(last[:], w[59])
	if want := [4]byte{0x70, 0x6c, 0x63, 0x1e}; last != want { // w59 = 706c631e
		t.Errorf("the last word of the schedule is %x, want %x", last, want)
	}
}

// writeDump makes a dump of pages that a test lays out.
func writeDump(t *testing.T, mem []byte) *dump {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump")
	if err := os.WriteFile(path, mem, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openDump(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// What is left of a token after a wipe that clears no registers and no pages: three
// round keys in a row, a nonce, and a page of ciphertext.
func TestAttackRecovers(t *testing.T) {
	const pages, atKeys, atNonce, atPage = 64, 5*pageSize + 24, 9*pageSize + 38, 20 * pageSize
	token := derive("seed", "wiped.tokenfs.0", pageSize)
	lay := func(t *testing.T, first int) (mem []byte) {
		mem = make([]byte, pages*pageSize)
		rand.Read(mem[40*pageSize:])
		key, nonce := make([]byte, 32), make([]byte, aeadNonce)
		rand.Read(key)
		for distinct(nonce) < 9 {
			rand.Read(nonce)
		}
		schedule := expand(key)
		for i, w := range schedule[first : first+scheduleWords] {
			binary.LittleEndian.PutUint32(mem[atKeys+4*i:], w)
		}
		binary.LittleEndian.PutUint32(mem[atNonce:], 7)
		binary.LittleEndian.PutUint16(mem[atNonce+4:], pageSize)
		copy(mem[atNonce+6:], nonce)
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		copy(mem[atPage:atPage+pageSize], aead.Seal(nil, nonce, token, nil))
		return mem
	}
	for first := 0; first <= 48; first += 4 {
		if n := runAttack(writeDump(t, lay(t, first))).recovered(token); n != pageSize {
			t.Errorf("with round keys from word %d on: %d of %d bytes recovered", first, n, pageSize)
		}
	}
	for what, at := range map[string][2]int{"round keys": {atKeys, 16}, "nonce": {atNonce, 18}, "ciphertext": {atPage, pageSize}} {
		mem := lay(t, 8)
		clear(mem[at[0] : at[0]+at[1]])
		if n := runAttack(writeDump(t, mem)).recovered(token); n != 0 {
			t.Errorf("without the %s, %d bytes are recovered", what, n)
		}
	}
}

// A search of a dump tells what lies in it, also across pages, and what does not.
func TestSearch(t *testing.T) {
	token, other := derive("seed", "a", 300), derive("seed", "b", 300)
	mem := make([]byte, 16*pageSize)
	copy(mem[3*pageSize-100:], token)
	copy(mem[7*pageSize+3:], token[10:25]) // too short to count
	s := newSearch([]secret{{"tokenfs", contents, "", token}, {"tmpfs", contents, "", other}}, writeDump(t, mem), nil)
	path := filepath.Join(t.TempDir(), "swap")
	if err := os.WriteFile(path, bytes.Repeat(other[40:72], 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.run(map[string]string{"swap": path}); err != nil {
		t.Fatal(err)
	}
	if c := s.cells.at("tokenfs", contents); c.Found != 300 || c.Of != 300 || c.Where["swap"] != 0 {
		t.Errorf("of a token that is there whole: %+v", c)
	}
	if c := s.cells.at("tmpfs", contents); c.Found != 32 || c.Where["swap"] != 32 {
		t.Errorf("of a token of which 32 bytes are in swap: %+v", c)
	}
}
