package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"runtime"
	"sync"
)

// An attacker who has a dump and nothing else: no key, no address, no symbol. It looks
// for AES-256 key schedules by their own relation (FIPS 197, 5.2), three round keys in a
// row or more, as saved registers hold them; for references to sealed blocks, which have
// the nonces; and for pages that one opens with the other.
type attack struct {
	keys, nonces, pages int
	opened              [][]byte // blocks of plaintext
}

func runAttack(d *dump) (a attack) {
	parts := d.extents()
	schedules, nonces := map[[32]byte]bool{}, map[[aeadNonce]byte]bool{}
	var sealed []int
	for _, p := range parts {
		findKeys(d.mem, p, schedules)
		findNonces(d.mem, p, nonces)
		sealed = append(sealed, findSealed(d.mem, p)...)
	}
	a.keys, a.nonces, a.pages = len(schedules), len(nonces), len(sealed)

	work := make(chan [32]byte)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for key := range work {
				for _, block := range open(d.mem, key, nonces, sealed) {
					mu.Lock()
					a.opened = append(a.opened, block)
					mu.Unlock()
				}
			}
		})
	}
	for key := range schedules {
		work <- key
	}
	close(work)
	wg.Wait()
	return a
}

// recovered counts the bytes of token that the attacker has.
func (a attack) recovered(token []byte) (n int) {
	for at := 0; at+pageSize <= len(token); at += pageSize {
		for _, block := range a.opened {
			if bytes.Equal(block, token[at:at+pageSize]) {
				n += pageSize
				break
			}
		}
	}
	return n
}

const scheduleWords = 12 // three round keys

// findKeys tries every place as words i to i+11 of a schedule.
func findKeys(mem []byte, part [2]int, found map[[32]byte]bool) {
	certain := map[int]bool{}        // places
	doubtful := map[int][][32]byte{} // where one of several keys is right
	for at := part[0]; at+4*scheduleWords <= part[1]; at += 8 {
		word := func(n int) uint32 { return binary.LittleEndian.Uint32(mem[at+4*n:]) }
		// Words 9, 10 and 11 follow from their neighbours wherever the window begins.
		if word(8) == 0 || word(9)^word(1) != word(8) || word(10)^word(2) != word(9) || word(11)^word(3) != word(10) {
			continue
		}
		var w [scheduleWords]uint32
		for n := range w {
			w[n] = word(n)
		}
		for i := 0; i <= 48; i += 4 {
			// A key is random: of its 32 bytes, 30 are distinct on the average.
			switch key, ok := keyFrom(w, i); {
			case !ok || distinct(key[:]) <= 20:
			case i%8 == 0:
				certain[at] = true
				found[key] = true
			default: // such words do not tell which they are
				doubtful[at] = append(doubtful[at], key)
			}
		}
	}
	const roundKey = 16
	for at, keys := range doubtful {
		if certain[at-roundKey] || certain[at+roundKey] {
			continue // the schedule goes on there, and tells
		}
		for _, key := range keys {
			found[key] = true
		}
	}
}

// keyFrom takes words i to i+11 of a schedule, i a multiple of 4, and goes back to the
// first eight, which are the key; false where they are no such words.
func keyFrom(w [scheduleWords]uint32, i int) (key [32]byte, ok bool) {
	for k := 8; k < len(w); k++ {
		if w[k]^w[k-8] != scheduleStep(i+k, w[k-1]) {
			return key, false
		}
	}
	s := [8]uint32(w[:8])
	for ; i > 0; i-- {
		s = [8]uint32{s[7] ^ scheduleStep(i+7, s[6]), s[0], s[1], s[2], s[3], s[4], s[5], s[6]}
	}
	for k, word := range s {
		binary.LittleEndian.PutUint32(key[4*k:], word)
	}
	return key, true
}

// scheduleStep is what word i is, xored with word i-8, when previous is word i-1.
func scheduleStep(i int, previous uint32) uint32 {
	substituted := func(w uint32) uint32 {
		return uint32(sbox[byte(w)]) | uint32(sbox[byte(w>>8)])<<8 | uint32(sbox[byte(w>>16)])<<16 | uint32(sbox[byte(w>>24)])<<24
	}
	switch i % 8 {
	case 0:
		return substituted(previous>>8|previous<<24) ^ 1<<(i/8-1)
	case 4:
		return substituted(previous)
	}
	return previous
}

// sbox by its definition: the inverse in GF(2^8), then an affine map (FIPS 197, 5.1.1).
var sbox = func() (box [256]byte) {
	times := func(a, b byte) (p byte) {
		for ; b > 0; b >>= 1 {
			if b&1 == 1 {
				p ^= a
			}
			a = a<<1 ^ a>>7*0x1b
		}
		return p
	}
	for i := range box {
		var inverse byte
		for j := 1; j < 256 && i > 0; j++ {
			if times(byte(i), byte(j)) == 1 {
				inverse = byte(j)
				break
			}
		}
		rotated := func(n int) byte { return inverse<<n | inverse>>(8-n) }
		box[i] = inverse ^ rotated(1) ^ rotated(2) ^ rotated(3) ^ rotated(4) ^ 0x63
	}
	return box
}()

const aeadNonce = 12

// findNonces looks for references to whole sealed blocks as crypt.Sealed lies in
// memory: a small cell number, a length of 4096, a nonce.
func findNonces(mem []byte, part [2]int, found map[[aeadNonce]byte]bool) {
	for at := part[0]; at+6+aeadNonce <= part[1]; at += 2 {
		if mem[at+5] != pageSize>>8 || mem[at+4] != 0 || mem[at+3] != 0 || mem[at+2] != 0 {
			continue
		}
		nonce := [aeadNonce]byte(mem[at+6:])
		if binary.LittleEndian.Uint16(mem[at:]) != 0 && distinct(nonce[:]) >= 9 {
			found[nonce] = true
		}
	}
}

// findSealed lists the pages that begin as random ones do.
func findSealed(mem []byte, part [2]int) (pages []int) {
	for at := (part[0] + pageSize - 1) &^ (pageSize - 1); at+pageSize <= part[1]; at += pageSize {
		if distinct(mem[at:at+64]) > 40 { // 57 on the average
			pages = append(pages, at)
		}
	}
	return pages
}

func distinct(b []byte) (n int) {
	var seen [256]bool
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

// tokenText is what the attacker takes for a token cache: base64url, and JSON around it.
var tokenText = func() (is [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_{}[]\":,. /+=\n") {
		is[c] = true
	}
	return is
}()

// open decrypts every page with a key and every nonce, and keeps what is text.
func open(mem []byte, key [32]byte, nonces map[[aeadNonce]byte]bool, pages []int) (blocks [][]byte) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("internal error: " + err.Error())
	}
	text := func(a, b []byte) bool {
		for i := range b {
			if !tokenText[a[i]^b[i]] {
				return false
			}
		}
		return true
	}
	stream := make([]byte, pageSize)
	for nonce := range nonces {
		var counter [aes.BlockSize]byte
		copy(counter[:], nonce[:])
		counter[aes.BlockSize-1] = 2 // GCM's first counter for data (SP 800-38D, 7.1)
		var first [aes.BlockSize]byte
		block.Encrypt(first[:], counter[:])
		for _, at := range pages {
			if !text(mem[at:], first[:]) {
				continue
			}
			clear(stream)
			cipher.NewCTR(block, counter[:]).XORKeyStream(stream, stream)
			if text(mem[at:at+pageSize], stream) {
				plain := make([]byte, pageSize)
				for i := range plain {
					plain[i] = mem[at+i] ^ stream[i]
				}
				blocks = append(blocks, plain)
			}
		}
	}
	return blocks
}
