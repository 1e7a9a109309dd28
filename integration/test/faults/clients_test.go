package faults

import (
	"encoding/binary"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// What a client asked for is done once, and all of it, also if the client is
// interrupted or killed while a worker that hangs has its request.
func TestClientsEndInMidRequest(t *testing.T) {
	const write, create = 16, 35 // FUSE_WRITE, FUSE_CREATE
	for _, s := range []struct {
		name   string
		at     string // where the worker hangs
		kind   uint32 // during which FUSE request
		signal unix.Signal
		script string // must not fork before its last call
		want   string // of the check, when it was done
	}{
		{"interrupted append", "committed", write, unix.SIGINT, "trap : INT; echo more >> log; echo ended $?", "first\nmore\n"},
		{"killed append, not done yet", "staged", write, unix.SIGKILL, "echo more >> log", "first\nmore\n"},
		{"killed append, done", "committed", write, unix.SIGKILL, "echo more >> log", "first\nmore\n"},
		{"killed creation", "committed", create, unix.SIGKILL, "set -C; : > new", "first\nnew\n"},
		{"terminated append", "staged", write, unix.SIGTERM, "echo more >> log", "first\nmore\n"},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			u := installed.New(t, command(t, "tokenfs_torture"), installed.Packaged)
			o := giveOrders(u)
			u.Must("mount")
			u.Shell("echo first > " + u.Path("log"))
			before := u.Status()
			binary.NativeEndian.PutUint32(o[4:], s.kind)
			o.at(s.at, spin)
			client := u.Program("sh", "-c", "cd "+u.Mountpoint()+"; "+s.script)
			client.SysProcAttr.Setpgid = true
			var said strings.Builder
			client.Stdout, client.Stderr = &said, &said
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			u.Eventually("a request hangs", 5*time.Second, o.done)
			// Twice: the first signal may come before it sleeps.
			for range 2 {
				if err := unix.Kill(client.Process.Pid, s.signal); err != nil {
					t.Fatal(err)
				}
			}
			timed(t, "its end", func() { client.Wait() })
			ws := client.ProcessState.Sys().(syscall.WaitStatus)
			if s.signal == unix.SIGINT {
				if !strings.Contains(said.String(), "ended 0") {
					t.Errorf("the client's call was interrupted: %q, %v", said.String(), client.ProcessState)
				}
			} else if ws.Signal() != syscall.Signal(s.signal) {
				t.Errorf("the client ended otherwise: %v, %q", client.ProcessState, said.String())
			}
			got := u.Shell("cd " + u.Mountpoint() + "; cat log; ls | grep -v log || true")
			if got != s.want {
				t.Errorf("then there is %q, not %q", got, s.want)
			}
			after := u.Status()
			if after.Worker.Restarts != before.Worker.Restarts+1 {
				t.Errorf("%d restarts, not one more than %d", after.Worker.Restarts, before.Worker.Restarts)
			}
			// Whatever the client had open is closed: nothing stays in use.
			u.Shell("rm -f " + u.Path("log") + " " + u.Path("new"))
			u.Eventually("nothing is in use", 5*time.Second, func() bool {
				c := u.Status().Content
				return c.Files == 0 && c.Bytes == 0
			})
			u.Must("unmount")
			u.NothingLeft()
		})
	}
}
