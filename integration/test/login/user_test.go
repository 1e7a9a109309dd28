package login

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A user of the machine, made for one test.
type user struct {
	*testing.T
	*machine
	name string
	uid  string
}

var users atomic.Int32

// newUser makes a user with a key to log in with. Tests run beside each other,
// each with a user of its own.
func newUser(t *testing.T) user {
	t.Helper()
	if noneAs != nil {
		if *must {
			t.Fatal(noneAs)
		}
		t.Skip("NOT RUN: ", noneAs)
	}
	return shared.newUser(t)
}

func (m *machine) newUser(t *testing.T) user {
	t.Helper()
	u := user{t, m, fmt.Sprintf("user%d", users.Add(1)), ""}
	u.must(u.as("useradd --create-home --shell /bin/bash " + u.name + " && usermod --password '*' " + u.name))
	u.uid = u.must(u.as("id -u " + u.name))
	t.Cleanup(func() {
		// Without the line below one test's services would be another's load.
		u.as("loginctl disable-linger " + u.name + "; loginctl terminate-user " + u.name)
		u.as("rm -rf /etc/systemd/user/tokenfs.service.d/" + u.name + ".conf")
	})
	return u
}

func (u user) must(said string, err error) string {
	u.Helper()
	if err != nil {
		u.Fatal(err)
	}
	return said
}

// login logs in, has the script run, and logs out.
func (u user) login(script string) string {
	u.Helper()
	return u.must(run(u.ssh(u.name, inOrder+script)))
}

// inOrder has errors come where they were said: ssh keeps two streams apart.
const inOrder = "exec 2>&1; "

// seen reports what a case saw.
func (u user) seen(format string, args ...any) {
	u.Helper()
	u.Logf("seen: "+format, args...)
}

func (u user) mountpoint() string { return "/run/user/" + u.uid + "/tokenfs" }

// mounted asks the mount table: to look at a path says little about a dead mount.
func (u user) mounted() bool {
	u.Helper()
	table := u.must(u.as("cat /proc/self/mountinfo"))
	return strings.Contains(table, " "+u.mountpoint()+" ")
}

// keeper is the pid of the user's keeper, 0 if there is none.
func (u user) keeper() (pid string) {
	pid, _ = u.as("pgrep --full '^[^ ]*tokenfs mount ' --uid " + u.name)
	return pid
}

// processes are all of the user's.
func (u user) processes() string {
	said, _ := u.as("pgrep --list-full --uid " + u.name)
	return said
}

// within waits for something that happens by itself, and says how long it took.
func (u user) within(limit time.Duration, what string, done func() bool) time.Duration {
	u.Helper()
	start := time.Now()
	for !done() {
		if time.Since(start) > limit {
			u.Fatalf("not within %v: %s; processes:\n%s\n%s", limit, what, u.processes(), u.journal())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start).Round(10 * time.Millisecond)
}

func (u user) eventually(what string, done func() bool) time.Duration {
	u.Helper()
	return u.within(*slow, what, done)
}

func (u user) journal() string {
	said, _ := u.as("journalctl --quiet --no-pager --lines 30 --output short-monotonic _UID=" + u.uid + " + SYSLOG_IDENTIFIER=systemd-logind")
	return said
}

// gone waits until nothing is left of the user's logins.
func (u user) gone() time.Duration {
	u.Helper()
	return u.eventually("nothing is left: no mount, no runtime directory, no process", func() bool {
		_, err := u.as("test -e /run/user/" + u.uid)
		return err != nil && !u.mounted() && u.processes() == ""
	})
}

// A session is a login that lasts until it is told to end.
type session struct {
	user
	in     io.WriteCloser
	out    *output
	cmd    *exec.Cmd
	number int
}

// output is what a session has said so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) after(mark string) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, _, found := strings.Cut(o.text.String(), mark)
	return before, found
}

// open logs in and stays.
func (u user) open(options ...string) *session {
	u.Helper()
	s := &session{user: u, out: &output{}, cmd: u.ssh(u.name, "exec bash --norc --noprofile 2>&1", options...)}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.WaitDelay = time.Second
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		u.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		u.Fatal(err)
	}
	u.Cleanup(s.end)
	s.do("true")
	return s
}

// do runs a script in the session and returns what it says.
func (s *session) do(script string) string {
	s.Helper()
	s.number++
	mark := fmt.Sprintf("<done %d>", s.number)
	var said string
	fmt.Fprintf(s.in, "%s\necho '%s'\n", script, mark)
	s.eventually("the session runs "+script, func() (done bool) {
		said, done = s.out.after(mark)
		return done
	})
	if _, earlier, found := strings.Cut(said, fmt.Sprintf("<done %d>", s.number-1)); found {
		said = earlier
	}
	return strings.TrimSpace(said)
}

// end logs out and returns when the client has ended.
func (s *session) end() {
	s.in.Close()
	s.cmd.Wait()
}
