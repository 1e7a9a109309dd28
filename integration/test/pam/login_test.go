package pam

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFirstCommand(t *testing.T) {
	h := newHost(t)
	said := h.login("alice", `
		d=/run/user/$(id -u); stat -c '%a %U %G' $d; stat -c '%a %U' $d/tokenfs
		echo token > $d/tokenfs/x && cat $d/tokenfs/x
		tokenfs status --json | sed -n 's/.*"logins": //p'
		id -Gn $(ps -o user= -p $(tokenfs status --json | sed -n '/"mount"/,/}/s/.*"pid": \([0-9]*\).*/\1/p'))
		grep -E '^(Cap(Inh|Prm|Eff|Amb)|Groups)' /proc/$(pgrep -x tokenfs | head -1)/status | tr -d '\t' | tr '\n' ' '
		cat /proc/$(pgrep -x tokenfs | head -1)/oom_score_adj`)
	uid := h.uid("alice")
	want := "700 alice alice\n700 alice\ntoken\n1,\nalice\n" +
		"Groups:" + uid + "  CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapAmb:0000000000000000 0"
	if strings.Join(strings.Fields(said), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("%s\nwant\n%s", said, want)
	}
}

// A login shell gets the variable from /etc/profile.d; nobody else needs it.
func TestVariable(t *testing.T) {
	h := newHost(t)
	if got, want := h.login("alice", "echo $XDG_RUNTIME_DIR; bash -l -c 'echo $XDG_RUNTIME_DIR'"), "/run/user/"+h.uid("alice"); got != want {
		t.Errorf("XDG_RUNTIME_DIR is %q, want none in a command and %s in a login shell", got, want)
	}
}

func TestLastLogout(t *testing.T) {
	h := newHost(t)
	first := h.stay("alice", "echo token > x")
	second := h.stay("alice", "cat x")
	if n := h.logins(); n != "2" {
		t.Errorf("%s sessions on record", n)
	}
	first.end()
	h.login("alice", "cat /run/user/*/tokenfs/x")
	time.Sleep(2 * grace) // the first one's end must have no effect, even so late
	h.login("alice", "cat /run/user/*/tokenfs/x")
	second.end()
	after := h.eventually("the last logout wipes", nothing)
	t.Logf("mount, daemon and directory gone %v after the last logout; the grace is %v", after.Round(10*time.Millisecond), grace)
	if said := h.login("alice", "ls -A /run/user/*/tokenfs"); said != "" {
		t.Errorf("after the next login there is %s", said)
	}
}

// A connection that was lost need not mean signing in again.
func TestGrace(t *testing.T) {
	h := newHost(t)
	h.root("cp /etc/tokenfs/config /etc/tokenfs/before; echo grace = 10m > /etc/tokenfs/config")
	h.login("alice", "echo token > /run/user/$(id -u)/tokenfs/x")
	h.root("mv /etc/tokenfs/before /etc/tokenfs/config")
	time.Sleep(2 * grace)
	h.login("alice", "cat /run/user/*/tokenfs/x; pkill -x tokenfs")
}

func TestTwentyAtATime(t *testing.T) {
	h := newHost(t)
	const n = 20
	began := time.Now()
	var sessions [n]*session
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { sessions[i] = h.stay("alice", fmt.Sprintf("echo %d > %[1]d", i)) })
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d logins at a time, all with a mount, after %v", n, time.Since(began).Round(10*time.Millisecond))
	if got := h.logins(); got != fmt.Sprint(n) {
		t.Errorf("%s sessions on record", got)
	}
	if got := h.login("alice", "ls /run/user/*/tokenfs | wc -l; tokenfs status --json | sed -n 's/.*\"logins\": //p'; pgrep -x tokenfs | wc -l"); got != fmt.Sprintf("%d\n%d,\n1", n, n+1) {
		t.Errorf("files, logins as the keeper knows them, keepers: %s", got)
	}
	for _, s := range sessions[1:] {
		wait.Go(s.end)
	}
	wait.Wait()
	time.Sleep(2 * grace)
	if got := h.login("alice", "ls /run/user/*/tokenfs | wc -l"); got != fmt.Sprint(n) {
		t.Errorf("%s files with one session left", got)
	}
	sessions[0].end()
}

// A session that is never closed, because its leader was killed, has ended too.
func TestKilledSessions(t *testing.T) {
	h := newHost(t)
	h.stay("alice", "echo token > x")
	h.root(`pkill -9 -f '^sshd: alice'`)
	h.eventually("the end of killed sessions wipes", "! grep -q fuse.tokenfs /proc/self/mountinfo")
	if n := h.logins(); n != "1" {
		t.Errorf("%s sessions on record: the killed one was not to be noticed before the next login", n)
	}
	again := h.stay("alice", "test ! -e x; echo token > x")
	if n := h.logins(); n != "1" {
		t.Errorf("%s sessions on record with one stale and one new", n)
	}
	again.end()
}

// A pid that has come again does not stand for a session that was never closed.
func TestStaleRecord(t *testing.T) {
	h := newHost(t)
	h.root(`echo '{"made":true,"leaders":[{"pid":1,"start":"1"},{"pid":999999,"start":"5"}]}' > /run/tokenfs/$(id -u alice)`)
	h.login("alice", "true")
	h.rest()
	h.root(`echo 'garbage{' > /run/tokenfs/$(id -u alice)`)
	h.login("alice", "test -e /run/user/*/tokenfs")
}

func TestKilledKeeper(t *testing.T) {
	h := newHost(t)
	s := h.stay("alice", "echo token > x")
	h.root("pkill -9 -x tokenfs")
	h.eventually("keeper and worker die", "! pgrep tokenfs >/dev/null")
	if said := h.login("alice", "cat /run/user/*/tokenfs/x 2>&1; cd /run/user/*/tokenfs; echo new > y; cat y"); !strings.HasSuffix(said, "new") || strings.Contains(said, "token\n") {
		t.Errorf("after the keeper was killed: %s", said)
	}
	s.end()
	h.rest()
	s = h.stay("alice", "echo token > x")
	h.root("pkill -9 -x tokenfs")
	s.end() // and the dead mount goes as well
}

// As long as something stays mounted in the runtime directory it cannot go; for
// that root has one process, and not one for each logout.
func TestOneRemover(t *testing.T) {
	h := newHost(t)
	keep := "/run/user/" + h.uid("alice") + "/keep"
	h.login("alice", "mkdir "+keep+" && tokenfs mount "+keep)
	defer h.root("runuser -u alice -- tokenfs unmount --mountpoint=" + keep)
	for range 10 {
		h.login("alice", "true")
	}
	h.eventually("all sessions are closed", "! pgrep -f '^sshd: alice' >/dev/null && pgrep -f '[t]okenfs-pam remove' >/dev/null")
	if n := h.root("pgrep -fc '[t]okenfs-pam remove'"); n != "1" {
		t.Errorf("after 11 logouts %s processes wait for the directory", n)
	}
}

// What root runs as a user to empty the runtime directory, the user can stop: that
// keeps nobody from logging in.
func TestStoppedEmptier(t *testing.T) {
	h := newHost(t)
	h.login("alice", `cd /run/user/$(id -u); mkdir many; (cd many; seq 20000 | xargs touch)
		setsid sh -c 'while :; do pkill -STOP -f "[t]okenfs-pam empty" && touch /tmp/stopped; done' </dev/null >/dev/null 2>&1 &`)
	defer h.root("pkill -f '[p]kill -STOP'; rm -f /tmp/stopped")
	h.eventually("the process that empties the directory was stopped", "test -e /tmp/stopped")
	if said := h.login("alice", "stat -f -c %T /run/user/$(id -u)/tokenfs"); said != "fuseblk" && said != "fuse" {
		t.Errorf("a login then has %s", said)
	}
}

// A login name of digits is a name, and not somebody else's uid.
func TestNameOfDigits(t *testing.T) {
	h := newHost(t)
	name := h.uid("alice")
	h.root("useradd --badname -m -s /bin/bash " + name)
	defer func() { h.rest(); h.root("userdel -r " + name + " 2>&1") }()
	s := h.stay("alice", "echo token > x")
	before := h.logins()
	said := h.login(name, "id -un; stat -c %U /run/user/$(id -u)/tokenfs")
	if said != name+"\n"+name {
		t.Errorf("a user with the name %s has %s", name, said)
	}
	if now := h.logins(); now != before {
		t.Errorf("alice had %s sessions on record, and has %s", before, now)
	}
	s.end()
}

func TestUpgrade(t *testing.T) {
	h := newHost(t)
	s := h.stay("alice", "echo token > x; tokenfs upgrade")
	time.Sleep(2 * grace)
	h.login("alice", "cat /run/user/*/tokenfs/x")
	s.end()
}

func TestHold(t *testing.T) {
	h := newHost(t)
	h.login("alice", "echo token > /run/user/$(id -u)/tokenfs/x; tokenfs hold 1h")
	time.Sleep(2 * grace)
	h.login("alice", "cat /run/user/*/tokenfs/x && tokenfs release")
}
