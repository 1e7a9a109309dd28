//lint:file-ignore U1000 reflection looks at fields that no line names

package crypt

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// outsideHeap returns zeroed memory that the collector knows nothing of.
func outsideHeap(t testing.TB, size int) []byte {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

func randomize(b ...[]byte) {
	for _, b := range b {
		rand.Read(b)
	}
}

// NIST SP 800-38D's companion test cases 13 to 16 and three of the CAVS vectors
// (gcmEncryptExtIV256).
var gcmVectors = []struct{ key, nonce, plaintext, aad, sealed string }{
	{
		key:    "0000000000000000000000000000000000000000000000000000000000000000",
		nonce:  "000000000000000000000000",
		sealed: "530f8afbc74536b9a963b4f1c4cb738b",
	}, {
		key:       "0000000000000000000000000000000000000000000000000000000000000000",
		nonce:     "000000000000000000000000",
		plaintext: "00000000000000000000000000000000",
		sealed:    "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
	}, {
		key:       "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		nonce:     "cafebabefacedbaddecaf888",
		plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
		sealed:    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015adb094dac5d93471bdec1a502270e3cc6c",
	}, {
		key:       "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		nonce:     "cafebabefacedbaddecaf888",
		plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		aad:       "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		sealed:    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
	}, {
		key:    "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
		nonce:  "516c33929df5a3284ff463d7",
		sealed: "bdc1ac884d332457a1d2664f168c76f0",
	}, {
		key:       "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
		nonce:     "0d18e06c7c725ac9e362e1ce",
		plaintext: "2db5168e932556f8089a0622981d017d",
		sealed:    "fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489",
	}, {
		key:       "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b",
		nonce:     "ac93a1a6145299bde902f21a",
		plaintext: "2d71bcfa914e4ac045b2aa60955fad24",
		aad:       "1e0889016f67601c8ebea4943bc23ad6",
		sealed:    "8995ae2e6df3dbf96fac7b7137bae67feca5aa77d51d4a0a14d9c51e1da474ab",
	},
}

func TestGCMVectors(t *testing.T) {
	a := newAEAD(outsideHeap(t, StateSize))
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i, v := range gcmVectors {
		nonce, plaintext, aad, sealed := unhex(v.nonce), unhex(v.plaintext), unhex(v.aad), unhex(v.sealed)
		a.setKey(unhex(v.key))
		if got := a.seal(nil, nonce, plaintext, aad); !bytes.Equal(got, sealed) {
			t.Errorf("vector %d: sealed %x, want %x", i, got, sealed)
		}
		got, err := a.open(nil, nonce, sealed, aad)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("vector %d: opened %x, %v, want %x", i, got, err, plaintext)
		}
		for bit := range 8 * len(sealed) {
			sealed[bit/8] ^= 1 << (bit % 8)
			if got, err := a.open(nil, nonce, sealed, aad); err == nil {
				t.Fatalf("vector %d: opened to %x with bit %d changed", i, got, bit)
			}
			sealed[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// Two states in turn, to see that they do not share anything, each with new
// keys over old ones.
func TestGCMEqualsStandard(t *testing.T) {
	mem := outsideHeap(t, 2*StateSize)
	states := [2]aead{newAEAD(mem), newAEAD(mem[StateSize:])}
	var standards [2]cipher.AEAD
	key, nonce, aad := make([]byte, keySize), make([]byte, NonceSize), make([]byte, 44)
	text := make([]byte, 5000)
	for i := range 1000 {
		randomize(key, nonce, aad, text)
		states[i%2].setKey(key)
		_, standards[i%2] = standard(key)
		plaintext := text[:int(text[0])<<8>>3%len(text)]
		for j, a := range states {
			if standards[j] == nil {
				continue
			}
			sealed := a.seal(nil, nonce, plaintext, aad)
			if !bytes.Equal(sealed, standards[j].Seal(nil, nonce, plaintext, aad)) {
				t.Fatalf("key %d, state %d: sealed differently from the standard library", i, j)
			}
			opened, err := a.open(nil, nonce, sealed, aad)
			if err != nil || !bytes.Equal(opened, plaintext) {
				t.Fatalf("key %d, state %d: not opened: %v", i, j, err)
			}
		}
	}
	states[0].clear()
	if !bytes.Equal(mem[:StateSize], make([]byte, StateSize)) {
		t.Error("clear left something behind")
	}
	mustPanic(t, "seal without a key", func() { states[0].seal(nil, nonce, nil, nil) })
	mustPanic(t, "open without a key", func() { states[0].open(nil, nonce, make([]byte, TagSize), nil) })
	if _, err := states[1].open(nil, nonce, states[1].seal(nil, nonce, nil, nil), nil); err != nil {
		t.Errorf("clearing one state spoiled the next: %v", err)
	}
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

// The other way to set up keys has to be right wherever this one is.
func TestExpandAndMove(t *testing.T) {
	a := newAEAD(outsideHeap(t, StateSize))
	key, nonce, text := make([]byte, keySize), make([]byte, NonceSize), make([]byte, 500)
	for i := range 100 {
		randomize(key, nonce, text)
		a.expandAndMove(key)
		_, gcm := standard(key)
		if !bytes.Equal(a.seal(nil, nonce, text, key), gcm.Seal(nil, nonce, text, key)) {
			t.Fatalf("key %d: sealed differently from the standard library", i)
		}
	}
}

func TestInPlaceKeys(t *testing.T) {
	err := checkInPlace()
	off := os.Getenv("TOKENFS_TEST_INSTRUCTIONS_OFF") != ""
	if off && err == nil {
		t.Error("keys are said to be set up in place without AES instructions")
	}
	if off || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Logf("not in place: %v", err)
		return
	}
	if err != nil {
		t.Errorf("not in place: %v", err)
	}
}

// What is said of the instructions is what the library does with them.
func TestHardwareAES(t *testing.T) {
	off := os.Getenv("TOKENFS_TEST_INSTRUCTIONS_OFF") != ""
	if hardwareAES() && off {
		t.Error("AES is said to run in constant time while the library does without the instructions")
	}
	if !hardwareAES() && !off && inPlaceKeys() {
		t.Error("AES is said to run without the instructions, and keys are set up as for them")
	}
}

// Without the instructions for AES or for GHASH everything works, less secretly.
func TestWithoutInstructions(t *testing.T) {
	if os.Getenv("TOKENFS_TEST_INSTRUCTIONS_OFF") != "" {
		return // this is the child
	}
	switches := map[string][]string{
		"amd64": {"cpu.aes=off", "cpu.pclmulqdq=off", "cpu.sse41=off", "cpu.ssse3=off"},
		"arm64": {"cpu.aes=off", "cpu.pmull=off"},
	}[runtime.GOARCH]
	if switches == nil {
		t.Skipf("no such instructions are known on %s", runtime.GOARCH)
	}
	for _, off := range switches {
		c := exec.Command("/proc/self/exe", "-test.v", "-test.run=^(TestGCM|TestExpandAndMove|TestInPlaceKeys|TestHardwareAES)")
		c.Env = append(os.Environ(), "GODEBUG="+off, "TOKENFS_TEST_INSTRUCTIONS_OFF=1")
		out, err := c.CombinedOutput()
		if err != nil || strings.Count(string(out), "--- PASS") < 5 {
			t.Errorf("with %s: %v\n%s", off, err, out)
		}
	}
}

// checkInPlace is only worth something if it notices.
func TestCheckInPlaceNotices(t *testing.T) {
	type moved struct {
		nonceSize, tagSize int
		rounds             int
		enc, dec           [60]uint32
		productTable       [8]power
	}
	type renamed struct {
		rounds             int
		enc, encX          [60]uint32
		nonceSize, tagSize int
		productTable       [8]power
	}
	type resized struct {
		rounds             int
		enc, dec           [60]uint32
		nonceSize, tagSize int
		productTable       [9]power
	}
	for _, other := range []reflect.Type{
		reflect.TypeFor[moved](), reflect.TypeFor[renamed](), reflect.TypeFor[resized](), reflect.TypeFor[struct{}](),
	} {
		if sameLayout(reflect.TypeFor[gcmState](), other) == nil {
			t.Errorf("%v passes for the layout of gcmState", other)
		}
	}
	if inPlaceKeys() {
		for _, at := range []int{0, 8, 247, 488, 496, 504, 759} {
			err := checkKeys(func(a aead, key []byte) {
				a.expandInPlace(key)
				a.mem[at] ^= 1
			})
			if err == nil {
				t.Errorf("a changed bit in byte %d goes unnoticed", at)
			}
		}
	}
	for _, pointer := range []reflect.Type{reflect.TypeFor[struct{ b cipher.Block }](), reflect.TypeFor[[2]*int](), reflect.TypeFor[struct{ s []byte }]()} {
		if movable(pointer) {
			t.Errorf("%v, which holds a pointer, passes for movable", pointer)
		}
	}
}

func TestGCMAllocatesNothing(t *testing.T) {
	if !inPlaceKeys() {
		t.Skipf("keys are not set up in place here: %v", checkInPlace())
	}
	mem := outsideHeap(t, 3*4096)
	a := newAEAD(mem)
	key, nonce, aad, text := mem[1024:1024+keySize], mem[1100:1100+NonceSize], mem[1200:1220], mem[4096:8000]
	sealed := mem[8192:8192:12288]
	for what, f := range map[string]func(){
		"setKey": func() { a.setKey(key) },
		"seal":   func() { a.setKey(key); a.seal(sealed, nonce, text, aad) },
		"open": func() {
			if _, err := a.open(text[:0], nonce, sealed[:len(text)+TagSize], aad); err != nil {
				t.Error(err)
			}
		},
		"clear": func() { a.clear(); a.setKey(key); a.seal(sealed, nonce, text, aad) },
	} {
		a.setKey(key)
		a.seal(sealed, nonce, text, aad)
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

func BenchmarkGCM(b *testing.B) {
	mem := outsideHeap(b, 4*4096)
	key := mem[1024 : 1024+keySize]
	randomize(key)
	a := newAEAD(mem)
	a.setKey(key)
	_, std := standard(key)
	b.Run("key/locked", func(b *testing.B) {
		for b.Loop() {
			a.setKey(key)
		}
	})
	b.Run("key/standard", func(b *testing.B) {
		for b.Loop() {
			standard(key)
		}
	})
	nonce, text, sealed := mem[1100:1100+NonceSize], mem[4096:8192], mem[8192:8192:16384]
	for _, size := range []struct {
		name string
		n    int
	}{{"200B", 200}, {"4KiB", 4096}} {
		text := text[:size.n]
		run := func(name string, seal func(dst, nonce, text, aad []byte) []byte, open func(dst, nonce, text, aad []byte) ([]byte, error)) {
			b.Run("seal/"+size.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(size.n))
				for b.Loop() {
					seal(sealed, nonce, text, nil)
				}
			})
			ciphertext := seal(sealed, nonce, text, nil)
			b.Run("open/"+size.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(size.n))
				for b.Loop() {
					if _, err := open(text[:0], nonce, ciphertext, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("locked", a.seal, a.open)
		run("standard", std.Seal, std.Open)
	}
}
