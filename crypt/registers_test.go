package crypt

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/scan"
)

// A child process uses a key and waits in a system call. Its parent looks at the
// registers that the kernel has saved of it.

func TestRegisters(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skipf("NOT TESTED: registers are not overwritten on %s", runtime.GOARCH)
	}
	if !inPlaceKeys() {
		t.Skipf("not measured: keys are not set up in place here: %v", checkInPlace())
	}
	for _, c := range []struct {
		does  string
		clean bool
	}{{"standard open", false}, {"set key", true}, {"seal", true}, {"open", true}, {"standard open, begin wait", true}, {"standard open, read at rest", true}} {
		t.Run(c.does, func(t *testing.T) {
			set, thread := waitingChild(t, c.does)
			found := map[string]int{}
			thread.Search(func(f scan.Found) { found[f.Label] += f.Len }, set)
			if clean := len(found) == 0; clean != c.clean {
				t.Errorf("clean is %v, want %v: a thread that waits after this has in its registers, in bytes: %v", clean, c.clean, found)
			}
			if strings.HasSuffix(c.does, "read at rest") {
				if left := thread.Initial(); len(left) > 0 {
					t.Errorf("the kernel leaves what it saved before of %v", left)
				}
			}
		})
	}
}

func waitingChild(t *testing.T, does string) (*scan.Set, scan.Thread) {
	t.Helper()
	key := make([]byte, keySize)
	rand.Read(key)
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe", "-test.run=^TestRegistersChild$")
	c.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "TOKENFS_TEST_REGISTERS="+hex.EncodeToString(key)+" "+does)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe() // what it waits for
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		c.Process.Kill()
		c.Wait()
	})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	var tid int
	if _, err := fmt.Sscanf(line, "thread %d", &tid); err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		threads, err := scan.Threads(c.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			if thread.TID == tid && thread.WaitedIn(unix.SYS_READ) {
				return keyMaterial(t, key), thread
			}
		}
	}
	t.Fatal("the child does not come to wait")
	return nil, scan.Thread{}
}

// keyMaterial is what becomes of a key.
func keyMaterial(t *testing.T, key []byte) *scan.Set {
	_, gcm := standard(key)
	state := *(*gcmState)(unsafe.Pointer(&memoryOf(gcm)[0]))
	set := new(scan.Set)
	for label, b := range map[string][]byte{
		"round keys":  unsafe.Slice((*byte)(unsafe.Pointer(&state.enc)), unsafe.Sizeof(state.enc)),
		"GHASH table": unsafe.Slice((*byte)(unsafe.Pointer(&state.productTable)), unsafe.Sizeof(state.productTable)),
	} {
		if err := set.Add(label, b); err != nil {
			t.Fatal(err)
		}
	}
	return set
}

// TestRegistersChild is the child.
func TestRegistersChild(t *testing.T) {
	order := os.Getenv("TOKENFS_TEST_REGISTERS")
	if order == "" {
		return
	}
	hexKey, does, _ := strings.Cut(order, " ")
	key, err := hex.DecodeString(hexKey)
	if err != nil {
		t.Fatal(err)
	}
	Quiet()
	a := newAEAD(outsideHeap(t, StateSize))
	_, gcm := standard(key)
	text, sealed, aad := make([]byte, 4096), make([]byte, 0, 4096+TagSize), make([]byte, 20)
	sealed = gcm.Seal(sealed, childNonce[:], text, aad)
	fmt.Println("thread", unix.Gettid())
	a.setKey(key)
	switch does {
	case "seal":
		a.seal(sealed[:0], childNonce[:], text[:200], aad)
	case "open":
		_, err = a.open(text[:0], childNonce[:], sealed, aad)
	case "standard open":
		_, err = gcm.Open(text[:0], childNonce[:], sealed, aad)
	case "standard open, begin wait":
		_, err = gcm.Open(text[:0], childNonce[:], sealed, aad)
		BeginWait()
	case "standard open, read at rest":
		_, err = gcm.Open(text[:0], childNonce[:], sealed, aad)
		ReadAtRest(0, text[:1])
	}
	unix.Read(0, text[:1])
	if err != nil {
		t.Fatal(err)
	}
}
