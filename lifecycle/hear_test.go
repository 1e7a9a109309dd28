package lifecycle

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
	"tokenfs/lifecycle/handover"
	"tokenfs/lifecycle/process"
)

// nowhere is never closed: a notifier may still be at work when its test is over.
var nowhere = sync.OnceValues(func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_WRONLY, 0) })

const testInodes = 100

// testChild is a process that is no worker, with a kernel that takes every notice, and
// what is logged about it.
func testChild(t testing.TB, pid int) (c *child, logged *[]string) {
	t.Helper()
	kernel, err := nowhere()
	if err != nil {
		t.Fatal(err)
	}
	logged = new([]string)
	logf := func(format string, args ...any) { *logged = append(*logged, fmt.Sprintf(format, args...)) }
	return &child{Handle: process.Handle{Pid: pid, Fd: -1}, died: make(chan struct{}), ready: make(chan struct{}),
		answers: make(chan toKeeper, 1), notes: fs.NewNotifier(int(kernel.Fd()), testInodes, logf), logf: logf}, logged
}

// victim is a process that the keeper may take from what it likes.
func victim(t testing.TB) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

const (
	saidLocked = `{"locked":{"own":[]}}`
	saidReady  = `{"ready":true}`
)

// A worker that somebody has taken over says what none of ours says.
func TestWorkerTalksNonsense(t *testing.T) {
	for name, said := range map[string][]string{
		"no JSON":                     {`ready`},
		"nothing":                     {`{}`},
		"ready at once":               {saidReady},
		"ready twice":                 {saidLocked, saidReady, saidReady},
		"locked down twice":           {saidLocked, saidLocked},
		"locked down again, later":    {saidLocked, saidReady, saidLocked},
		"two in one":                  {`{"log":"x","ready":true}`},
		"all inodes there can be":     {`{"notice":{"below":18446744073709551615}}`},
		"a notice of nothing":         {`{"notice":{}}`},
		"a notice of a name nowhere":  {`{"notice":{"name":"eA=="}}`},
		"a notice of a path":          {`{"notice":{"parent":1,"name":"Li4vLi4="}}`},
		"a notice of an endless name": {`{"notice":{"parent":1,"name":"` + strings.Repeat("eHh4", 100) + `"}}`},
		"a notice of two things":      {`{"notice":{"parent":1,"name":"eA==","ino":5}}`},
		"a number that is none":       {`{"id":-1}`},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := testChild(t, victim(t))
			for i, line := range said {
				nonsense := c.hear([]byte(line), &handover.RightsReader{})
				if last := i == len(said)-1; (nonsense != "") != last {
					t.Errorf("%.60s: %q", line, nonsense)
				}
			}
		})
	}
}

func TestWorkerTalksSense(t *testing.T) {
	c, logged := testChild(t, victim(t))
	for _, line := range []string{saidLocked, saidReady, `{"log":"x"}`, `{"notice":{"parent":1,"name":"eA=="}}`, `{"notice":{"ino":5}}`,
		`{"notice":{"below":70000}}`, `{"id":1,"error":"no such file","errno":2}`, `{"id":2}`, `{"id":3}`} {
		if nonsense := c.hear([]byte(line), &handover.RightsReader{}); nonsense != "" {
			t.Errorf("%s: %s", line, nonsense)
		}
	}
	select {
	case <-c.ready:
	default:
		t.Error("it is not ready")
	}
	if got := <-c.answers; got.ID != 1 || len(c.answers) != 0 {
		t.Errorf("answers %d, and %d more that nobody asked for", got.ID, len(c.answers))
	}
	if len(*logged) != 1 || (*logged)[0] != "x" {
		t.Errorf("logged %q", *logged)
	}
	for range 10 * maxLogged {
		if nonsense := c.hear([]byte(`{"log":"x"}`), &handover.RightsReader{}); nonsense != "" {
			t.Fatal(nonsense)
		}
	}
	if len(*logged) != maxLogged {
		t.Errorf("of a worker that does not stop, %d lines were logged", len(*logged))
	}
}

// A wipe has a notice for each name and inode, and the kernel may take none meanwhile.
// More than that is not collected.
func TestWorkerNoticesAreBounded(t *testing.T) {
	c, _ := testChild(t, victim(t))
	if !c.notes.Hold(time.Minute) {
		t.Fatal("the notifier is never at rest")
	}
	defer c.notes.Release()
	for ino := range 2 * testInodes {
		if !c.notes.Add(fs.Notice{Parent: 1, Name: []byte("x")}, fs.Notice{Ino: uint64(ino + 1)}) {
			t.Fatalf("notice %d of an honest worker is refused", ino)
		}
	}
	const most = 100 * testInodes
	for range most {
		if c.hear([]byte(`{"notice":{"parent":1,"name":"eA=="}}`), &handover.RightsReader{}) != "" {
			return
		}
	}
	t.Errorf("%d notices are kept", most)
}

// Neither a line without end nor nonsense leaves a worker that nobody hears.
func TestWorkerIsEndedForNonsense(t *testing.T) {
	for name, said := range map[string][]byte{"an endless line": bytes.Repeat([]byte("x"), 2*replyLimit), "nonsense": []byte("x\n")} {
		t.Run(name, func(t *testing.T) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			var ends [2]*net.UnixConn
			for i, fd := range fds {
				f := os.NewFile(uintptr(fd), "end")
				conn, err := net.FileConn(f)
				f.Close()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				ends[i] = conn.(*net.UnixConn)
			}
			c, _ := testChild(t, victim(t))
			c.conn = ends[0]
			go func() {
				ends[1].Write(said) // it blocks until all of it was read, or the other end is closed
				io.Copy(io.Discard, ends[1])
			}()
			c.listen()
			if !c.ours.Load() {
				t.Error("it was not killed")
			}
		})
	}
}

// Whatever a worker says, the keeper neither panics nor collects it.
func FuzzWorkerMessages(f *testing.F) {
	for _, line := range []string{saidLocked + "\n" + saidReady, `{"log":"x"}`, `{"notice":{"parent":1,"name":"eA=="}}`, `{"notice":{"below":3}}`,
		`{"id":1,"files":-1,"status":{"content":{"files":[{}]},"memory":{},"pss":-1}}`, `{"locked":{"own":[{"name":"x"}]}}`} {
		f.Add([]byte(line))
	}
	pid := victim(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		c, logged := testChild(t, pid)
		for line := range bytes.SplitSeq(said, []byte("\n")) {
			// An own copy: names of notices are kept until they are told.
			if c.hear(bytes.Clone(line), &handover.RightsReader{}) != "" {
				break
			}
		}
		if len(*logged) > maxLogged {
			t.Errorf("%d lines logged", len(*logged))
		}
	})
}
