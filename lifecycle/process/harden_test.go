package process

import (
	"os"
	"runtime"
	"testing"
)

func TestNameProcess(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	comm := func() string {
		b, err := os.ReadFile("/proc/thread-self/comm")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := comm()
	defer NameProcess(before[:len(before)-1])
	NameProcess("tokenfs")
	if got := comm(); got != "tokenfs\n" {
		t.Errorf("named %q", got)
	}
}
