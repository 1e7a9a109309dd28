package faults

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// A panic ends the request that it happened in, and nothing else; it is logged
// without data, and counted for as long as the filesystem is mounted.
func TestPanicInARequest(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t, "tokenfs_torture"), installed.Packaged)
	o := giveOrders(u)
	u.Must("mount")
	const secret = "eyJ0eXAiOiJKV1QifQ"
	u.Shell("echo before > " + u.Path("x"))
	before := u.Status()
	for n, point := range []string{"served", "changed", "staged", "committed"} {
		o.at(point, panik)
		said, code := u.End(u.Program("sh", "-c", "echo "+secret+" >> "+u.Path(secret)))
		if !o.done() {
			t.Fatalf("nothing panicked at %q", point)
		}
		if code == 0 || !strings.Contains(said, "Input/output error") {
			t.Errorf("panic at %q: the client ended with %d and said %q", point, code, said)
		}
		s := u.Status()
		if s.Content.Panics != uint64(n+1) {
			t.Errorf("panic at %q: %d panics are counted, not %d", point, s.Content.Panics, n+1)
		}
		if s.Worker != before.Worker {
			t.Errorf("panic at %q: worker was %+v, is %+v", point, before.Worker, s.Worker)
		}
		if got := u.Shell("cat " + u.Path("x")); got != "before\n" {
			t.Errorf("panic at %q: another file holds %q", point, got)
		}
		u.Shell("rm -f " + u.Path(secret))
	}
	s := u.Status()
	var log strings.Builder
	for _, m := range s.Messages {
		log.WriteString(m.Text + "\n")
	}
	if text := log.String(); !strings.Contains(text, "goroutine ") || !strings.Contains(text, "ordered by a test") || strings.Contains(text, secret) {
		t.Errorf("the log is %s", text)
	}
	unix.Kill(s.Worker.PID, unix.SIGKILL)
	u.Shell("cat " + u.Path("x"))
	after := u.Status()
	if after.Content.Panics != 4 || after.Worker.Restarts != s.Worker.Restarts+1 || after.Worker.PID == s.Worker.PID {
		t.Errorf("after a restart %d panics are counted, worker %+v", after.Content.Panics, after.Worker)
	}
	human := u.Must("status", "-v")
	if !strings.Contains(human, "4 requests ended in a panic") || !strings.Contains(human, "replaced once") {
		t.Errorf("status says %s", human)
	}
	u.Must("unmount")
	u.NothingLeft()
}
