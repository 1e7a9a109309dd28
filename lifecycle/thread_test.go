package lifecycle

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
)

// How a process ends is known as long as nobody has waited for it.
func TestLookAtThread(t *testing.T) {
	for _, c := range []struct {
		script string
		killed bool
	}{
		{"exit 0", false}, {"exit 3", false}, {"exit 139", false},
		{"kill -KILL $$", true}, {"kill -SEGV $$", true}, {"kill -TERM $$", true},
	} {
		cmd := exec.Command("sh", "-c", "ulimit -c 0; "+c.script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		a := lookAtThread(fs.AnswerKilled|fs.AnswerSame, uint32(cmd.Process.Pid), uint32(os.Getpid()))
		cmd.Wait()
		if (a&fs.AnswerKilled != 0) != c.killed || a&fs.AnswerSame != 0 {
			t.Errorf("%s: %b", c.script, a)
		}
	}
	me, tid := uint32(os.Getpid()), uint32(unix.Gettid())
	if a := lookAtThread(fs.AnswerKilled|fs.AnswerSame, tid, me); a != fs.AnswerSame {
		t.Errorf("a thread of one's own: %b", a)
	}
	if a := lookAtThread(fs.AnswerKilled|fs.AnswerSame, 1<<31, 0); a != 0 {
		t.Errorf("nobody: %b", a)
	}
}

func stat(name string, flags, code int) []byte {
	return fmt.Appendf(nil, "12 (%s) Z 1 1 1 0 -1 %d %s%d\n", name, flags, strings.Repeat("0 ", statExitCode-statFlags-1), code)
}

func TestWasKilled(t *testing.T) {
	for _, c := range []struct {
		stat []byte
		want bool
	}{
		{stat("az", 0x40044c, 9), true},
		{stat("az", 0x40064c, 11|0x80), true},
		{stat("a) Z 1 (b", 0x40044c, 15), true},
		{stat("az", 0x40004c, 0), false},
		{stat("az", 0x40044c, 3<<8), false}, // another thread has called exit
		{stat("az", 0x400000, 19), false},   // it was stopped
		{nil, false}, {[]byte("12 (az) Z 1"), false}, {[]byte("12 (az"), false},
	} {
		if got := wasKilled(c.stat); got != c.want {
			t.Errorf("%q: %v", c.stat, got)
		}
	}
}

func FuzzWasKilled(f *testing.F) {
	f.Add(stat("az", 0x40044c, 9))
	f.Add([]byte(") ) )"))
	f.Fuzz(func(t *testing.T, b []byte) { wasKilled(b) })
}
