package crypt

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A child process sets up one key after the other and seals and opens with
// them, as fast as it can. Its parent stops it again and again and searches its
// memory for what only the locked region may hold.

var keySamples = flag.Int("key-samples", 30, "memory samples that TestKeyHygiene takes of each child")

// The child's region: a ring of its last keys, by which traces of earlier ones
// are recognised, then the state.
const (
	ringKeys   = 16
	ringSize   = ringKeys * keySize
	regionSize = 4096
)

// The child's nonce, known to the parent. Each key meets it only for plaintexts
// nobody keeps secret.
var childNonce = [NonceSize]byte([]byte("test nonce!!"))

func TestKeyHygiene(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("not measured with -race: its shadow memory cannot be searched, and its code is not what ships")
	}
	if !inPlaceKeys() {
		t.Skipf("not measured: keys are not set up in place here: %v", checkInPlace())
	}
	t.Run("at work", func(t *testing.T) {
		if dirty, _ := sampleChild(t, "at work", *keySamples, 0); dirty > 0 {
			t.Errorf("key material outside the locked region in %d of %d samples", dirty, *keySamples)
		}
	})
	t.Run("at rest", func(t *testing.T) {
		if dirty, masked := sampleChild(t, "at rest", 1, restAfter); dirty+masked > 0 {
			t.Error("key material outside the locked region, although no key is in use")
		}
	})
	t.Run("standard library", func(t *testing.T) {
		dirty, masked := sampleChild(t, "standard", *keySamples, 0)
		if dirty == 0 || masked == 0 {
			t.Errorf("too little key material found in %d samples of a process that has it on heap and stack: the search is broken", *keySamples)
		}
	})
}

// The keys a child uses before it rests.
const restAfter = 1000

// sampleChild counts the samples, all after a number of rounds, that hold key
// material outside the region, and those that hold the masked first round key.
func sampleChild(t *testing.T, mode string, samples int, after uint64) (dirty, masked int) {
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe", "-test.run=^TestKeyHygieneChild$")
	c.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "TOKENFS_TEST_KEY_CHILD="+mode)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	c.Stderr = os.Stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		c.Process.Kill()
		c.Wait()
	}()
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	var region, counter int64
	if _, err := fmt.Sscanf(line, "region %d counter %d", &region, &counter); err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()

	where, searched, rounds := map[string]int{}, 0, after
	for i := range samples {
		// A few keys later than the last sample, at least.
		rounds = awaitRounds(t, mem, counter, rounds+uint64(i*7%23))
		stopChild(t, c.Process)
		s := takeSample(t, c.Process.Pid, mem, region)
		if len(s.unread) > 0 {
			t.Fatalf("memory that could not be read, so not searched: %v", s.unread)
		}
		searched += s.searched
		if len(s.found) > 0 {
			dirty++
		}
		if s.masked > 0 {
			masked++
		}
		for _, f := range s.found {
			where[f]++
		}
		if err := c.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s: key material outside the locked region in %d of %d samples, the masked first round key in %d; %d keys used, %d MiB searched",
		mode, dirty, samples, masked, rounds, searched>>20)
	for _, w := range slices.Sorted(maps.Keys(where)) {
		t.Logf("  %s: %d", w, where[w])
	}
	return dirty, masked
}

func awaitRounds(t *testing.T, mem *os.File, counter int64, want uint64) uint64 {
	// However slowly, on a busy machine: a minute without any is none. The pause
	// leaves a processor to the child.
	last := uint64(0)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		var b [8]byte
		if _, err := mem.ReadAt(b[:], counter); err != nil {
			t.Fatalf("read the child's counter: %v", err)
		}
		if n := binary.NativeEndian.Uint64(b[:]); n >= want {
			return n
		} else if n > last {
			last, deadline = n, time.Now().Add(time.Minute)
		}
	}
	t.Fatal("the child makes no progress")
	return 0
}

func stopChild(t *testing.T, p *os.Process) {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(stat, []byte(") T ")) && allStopped(t, p.Pid) {
			return
		}
	}
	t.Fatal("the child does not stop")
}

// allStopped reports whether all threads are stopped.
func allStopped(t *testing.T, pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, thread.Name()))
		if err != nil || !bytes.Contains(stat, []byte(") T ")) {
			return false
		}
	}
	return true
}

type keySample struct {
	found    []string // pattern and mapping
	masked   int      // blocks that reveal the first round key to who knows nonce and counter
	searched int
	unread   []string // mappings that could not be searched
}

const keyRun = 16 // bytes in a row that count as key material

func takeSample(t *testing.T, pid int, mem *os.File, region int64) (s keySample) {
	locked := make([]byte, regionSize)
	if _, err := mem.ReadAt(locked, region); err != nil {
		t.Fatalf("read the locked region: %v", err)
	}
	p := patternsOf(locked)
	mappings, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mappings)) {
		var from, to uint64
		var mode, rest string
		if _, err := fmt.Sscanf(line, "%x-%x %s %s %s %s", &from, &to, &mode, &rest, &rest, &rest); err != nil {
			t.Fatalf("mapping %q: %v", line, err)
		}
		name := "anonymous memory"
		if f := strings.Fields(line); len(f) > 5 {
			name = strings.Join(f[5:], " ")
		}
		// The kernel's own pages (clock data, system calls) hold nothing of the process.
		if !strings.ContainsAny(mode[:2], "rw") || strings.HasPrefix(name, "[vvar") || name == "[vsyscall]" {
			continue
		}
		buf := make([]byte, to-from)
		if _, err := mem.ReadAt(buf, int64(from)); err != nil {
			s.unread = append(s.unread, fmt.Sprintf("%x-%x %s: %v", from, to, name, err))
			continue
		}
		if r := uint64(region); from <= r && r < to {
			clear(buf[r-from:][:regionSize])
		}
		s.searched += len(buf)
		for _, what := range p.search(buf) {
			if what == maskedKey {
				s.masked++
			} else {
				s.found = append(s.found, fmt.Sprintf("%s in %s %s", what, mode, name))
			}
		}
	}
	return s
}

// keyPatterns maps runs of key material to their names. A filter over the first
// bytes keeps the search fast.
type keyPatterns struct {
	names  map[[keyRun]byte]string
	filter [1 << 24 / 64]uint64
	masked map[[len(childNonce)]byte]bool // such a block but for its last four bytes, the counter
}

const maskedKey = "masked first round key"

func patternsOf(region []byte) *keyPatterns {
	p := &keyPatterns{names: map[[keyRun]byte]string{}, masked: map[[len(childNonce)]byte]bool{}}
	// What is there, complete or not.
	p.add("state", region[ringSize:ringSize+StateSize])
	for i := range ringKeys {
		key := region[i*keySize : (i+1)*keySize]
		if bytes.Equal(key, make([]byte, keySize)) {
			continue
		}
		// What there should be, from the standard library.
		p.add("key", key)
		block, gcm := standard(key)
		state := *(*gcmState)(unsafe.Pointer(&memoryOf(gcm)[0]))
		h := make([]byte, aes.BlockSize)
		block.Encrypt(h, h)
		p.add("H", h)
		slices.Reverse(h)
		p.add("H reversed", h)
		var words []byte
		for _, w := range state.enc {
			words = binary.LittleEndian.AppendUint32(words, w)
		}
		p.add("round key", words)
		words = nil
		for _, w := range state.enc {
			words = binary.BigEndian.AppendUint32(words, w)
		}
		p.add("round key, words reversed", words)
		for _, entry := range state.productTable {
			var there, back []byte
			for i := range entry {
				there = binary.LittleEndian.AppendUint64(there, entry[i])
				back = binary.LittleEndian.AppendUint64(back, entry[len(entry)-1-i])
			}
			p.add("table", there)
			p.add("table, words reversed", back)
		}
		var masked [len(childNonce)]byte
		for i := range masked {
			masked[i] = childNonce[i] ^ key[i]
		}
		p.masked[masked] = true
		p.pass(masked[:])
	}
	return p
}

// add takes every run at a multiple of 8 bytes, but for those that contain a
// length or zeros.
func (p *keyPatterns) add(name string, b []byte) {
	for i := 0; i+keyRun <= len(b); i += 8 {
		r := [keyRun]byte(b[i:])
		if !looksRandom(r[:8]) || !looksRandom(r[8:]) {
			continue
		}
		if _, ok := p.names[r]; !ok {
			p.names[r] = name
		}
		p.pass(r[:])
	}
}

// looksRandom tells eight bytes of key material, surely, from a small number.
func looksRandom(b []byte) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(b)))) > 3
}

func (p *keyPatterns) pass(b []byte) {
	f := binary.LittleEndian.Uint32(b) >> 8
	p.filter[f/64] |= 1 << (f % 64)
}

func (p *keyPatterns) search(b []byte) (found []string) {
	zeros := make([]byte, 4096)
	for i := 0; i+keyRun <= len(b); i++ {
		if i+len(zeros) <= len(b) && b[i] == 0 && bytes.Equal(b[i:i+len(zeros)], zeros) {
			i += len(zeros) - 8 // no pattern begins with 8 zeros
		}
		f := binary.LittleEndian.Uint32(b[i:]) >> 8
		if p.filter[f/64]>>(f%64)&1 == 0 {
			continue
		}
		if name, ok := p.names[[keyRun]byte(b[i:])]; ok {
			found = append(found, name)
		}
		if p.masked[[len(childNonce)]byte(b[i:])] {
			found = append(found, maskedKey)
		}
	}
	return found
}

// TestKeyHygieneChild is the child.
func TestKeyHygieneChild(t *testing.T) {
	mode := os.Getenv("TOKENFS_TEST_KEY_CHILD")
	if mode == "" {
		return
	}
	go func() { // stops the world all the time
		for {
			runtime.GC()
		}
	}()
	runtime.LockOSThread()
	all := ^uint64(0)
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), 0, 8, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	region, counter := outsideHeap(t, regionSize), outsideHeap(t, 4096)
	if err := unix.Mlock(region); err != nil {
		t.Fatal(err)
	}
	state := region[ringSize : ringSize+StateSize]
	a := newAEAD(state)
	text, sealed := make([]byte, 4096), make([]byte, 0, 4096+TagSize)
	fmt.Printf("region %d counter %d\n", uintptr(unsafe.Pointer(&region[0])), uintptr(unsafe.Pointer(&counter[0])))
	for i := 0; ; i++ {
		key := region[i%ringKeys*keySize:][:keySize]
		if _, err := unix.Getrandom(key, 0); err != nil {
			t.Fatal(err)
		}
		seal, open := a.seal, a.open
		switch mode {
		case "standard":
			_, gcm := standard(key)
			seal, open = gcm.Seal, gcm.Open
		default:
			a.setKey(key)
		}
		for _, size := range []int{1, 200, 4096} {
			sealed = seal(sealed[:0], childNonce[:], text[:size], nil)
			if _, err := open(text[:0], childNonce[:], sealed, nil); err != nil {
				t.Fatal(err)
			}
		}
		a.clear()
		binary.NativeEndian.PutUint64(counter, uint64(i))
		for mode == "at rest" && i == restAfter {
			unix.Pause()
		}
	}
}
