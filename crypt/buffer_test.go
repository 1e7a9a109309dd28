package crypt

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestWithBuffer(t *testing.T) {
	wrong := errors.New("what f returns")
	for _, size := range []int{0, 1, 32 << 10} {
		err := WithBuffer(size, func(buf []byte) error {
			if len(buf) != size || slices.ContainsFunc(buf, func(b byte) bool { return b != 0 }) {
				t.Errorf("%d bytes, not %d, or not zero", len(buf), size)
			}
			if flags := mappingFlags(t, uintptr(unsafe.Pointer(unsafe.SliceData(buf)))); !slices.Contains(flags, "lo") || !slices.Contains(flags, "dd") {
				t.Errorf("the memory is not both locked and left out of core dumps: %v", flags)
			}
			status, _ := os.ReadFile("/proc/thread-self/status")
			if !strings.Contains(string(status), "SigBlk:\tfffffff") {
				t.Errorf("signals are not blocked:\n%s", status)
			}
			return wrong
		})
		if err != wrong {
			t.Error(err)
		}
	}
}

// mappingFlags are the VmFlags of smaps (proc(5)) of what lies at an address.
func mappingFlags(t *testing.T, at uintptr) []string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			here = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && here {
			return strings.Fields(flags)
		}
	}
	t.Fatal("the memory is not mapped")
	return nil
}
