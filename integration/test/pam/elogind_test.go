package pam

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// elogind is a host with sysvinit's packages and elogind as Debian sets it up.
var elogind = sync.OnceValues(func() (*host, error) { return start("elogind") })

func newElogind(t *testing.T) *host {
	t.Helper()
	if !*all {
		t.Skip("NOT RUN: wants another system, with elogind, to be built: sudo make test-login")
	}
	if noneAs != nil {
		t.Fatal(noneAs)
	}
	h, err := elogind()
	if err != nil {
		t.Fatal(err)
	}
	return h.with(t)
}

// known says what the keeper's status says of logins.
const known = `tokenfs status --json | sed -n 's/^ *"\(follows_logins\|logins\)": *//p' | xargs`

const onBus = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus."

// elogind makes the runtime directory, and says who is logged in.
func TestElogind(t *testing.T) {
	h := newElogind(t)
	said := h.login("alice", `
		d=/run/user/$(id -u); echo $XDG_RUNTIME_DIR; stat -c '%a %U' $d $d/tokenfs; sed -n "s,.* $d .* - \([a-z]*\) .*,\1,p" /proc/self/mountinfo
		echo token > $d/tokenfs/x && cat $d/tokenfs/x
		loginctl show-session $XDG_SESSION_ID -p Class -p Type -p Service | xargs
		`+known)
	if want := "/run/user/" + h.uid("alice") + "\n700 alice\n700 alice\ntmpfs\ntoken\nService=sshd Type=tty Class=user\ntrue, 1,"; said != want {
		t.Errorf("%s\nwant\n%s", said, want)
	}
	h.root("su - bob -c true; sudo -u bob true; runuser -l bob -c true")
	if said := h.root("ls /run/user; ls /run/tokenfs"); strings.Contains(said, h.uid("bob")) {
		t.Errorf("made or on record: %s", said)
	}
	h.rest()

	first := h.stay("alice", "echo token > x")
	// It asks, and does not count by itself: it has a connection to the bus.
	h.root(`test $(for name in $(` + onBus + `ListNames | grep -o ':[0-9.]*'); do
		` + onBus + `GetConnectionUnixProcessID string:$name 2>/dev/null; done | grep -c "uint32 $(pgrep -x -P 1 tokenfs)$") = 1`)
	second := h.stay("alice", "cat x")
	first.end()
	h.eventually("elogind knows of the first logout", "test $(loginctl list-sessions --no-legend | wc -l) = 1")
	if said := h.login("alice", "cat /run/user/*/tokenfs/x"); said != "token" {
		t.Errorf("after the first of two logouts: %s", said)
	}
	second.end()
	after := h.eventually("nothing is left after the last logout", nothing)
	if said := h.login("alice", "ls -A /run/user/*/tokenfs"); said != "" {
		t.Errorf("after the next login there is %s", said)
	}
	t.Logf("seen: mounted at the first command, in elogind's runtime directory; everything was gone %v after the second of two logouts", after.Round(10*time.Millisecond))
}

// Where elogind is told to leave the runtime directory for longer than the grace,
// there is one.
func TestElogindGrace(t *testing.T) {
	h := newElogind(t)
	set := func(delay string) {
		h.root("printf '[Login]\nUserStopDelaySec=" + delay + "\n' >/etc/elogind/logind.conf; /etc/init.d/elogind reload")
		h.eventually("elogind has read that", "dbus-send --system --print-reply --dest=org.freedesktop.login1 /org/freedesktop/login1 "+
			"org.freedesktop.DBus.Properties.Get string:org.freedesktop.login1.Manager string:UserStopDelayUSec | grep -q 'uint64 "+delay+"'")
	}
	set("15")
	defer set("0")
	h.root("cp /etc/tokenfs/config /etc/tokenfs/before; echo grace = 8s > /etc/tokenfs/config")
	defer h.root("mv /etc/tokenfs/before /etc/tokenfs/config")
	h.login("alice", "echo token > /run/user/$(id -u)/tokenfs/x")
	left := time.Now()
	time.Sleep(2 * time.Second)
	said, _ := run(h.ssh("alice", "cat /run/user/*/tokenfs/x"))
	if away := time.Since(left); said != "token" && away < 8*time.Second {
		t.Errorf("%v after a logout, with a grace of 8 s: %s", away, said)
	}
	left = time.Now()
	h.eventually("the mount goes", "! grep -q fuse.tokenfs /proc/self/mountinfo")
	took := time.Since(left).Round(10 * time.Millisecond)
	if took < 7*time.Second {
		t.Errorf("the mount was gone after %v", took)
	}
	if said := h.root("ls /run/user"); said != h.uid("alice") {
		t.Errorf("in /run/user there is %q: it was to go later than the mount", said)
	}
	t.Logf("seen: with UserStopDelaySec=15 and a grace of 8s the token was there for a login 2 s after a logout; the mount was gone %v after the last one", took)
}

func TestElogindKilledKeeper(t *testing.T) {
	h := newElogind(t)
	s := h.stay("alice", "echo token > x")
	h.root("pkill -9 -x tokenfs")
	s.end()
	h.eventually("nothing is left after a keeper was killed", nothing)
}

func TestElogindTwentyAtATime(t *testing.T) {
	h := newElogind(t)
	const n = 20
	var sessions [n]*session
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { sessions[i] = h.stay("alice", fmt.Sprintf("echo %d > %[1]d", i)) })
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if said := h.login("alice", "ls /run/user/*/tokenfs | wc -l; pgrep -x tokenfs | wc -l; "+known); said != fmt.Sprintf("%d\n1\ntrue, %d,", n, n+1) {
		t.Errorf("files, keepers, logins as the keeper knows them: %s", said)
	}
	for _, s := range sessions {
		wait.Go(s.end)
	}
	wait.Wait()
	t.Logf("seen: %d logins at a time had one filesystem, everything was gone %v after the last", n, h.eventually("the last logout leaves nothing", nothing).Round(10*time.Millisecond))
}

func TestElogindHold(t *testing.T) {
	h := newElogind(t)
	h.login("alice", "echo token > /run/user/$(id -u)/tokenfs/x; tokenfs hold 1h")
	h.eventually("elogind knows of the logout", "test $(loginctl list-sessions --no-legend | wc -l) = 0")
	time.Sleep(2 * grace)
	if said := h.login("alice", "cat /run/user/*/tokenfs/x; tokenfs release"); said != "token\nreleased 1 lease" {
		t.Errorf("after a logout, with a lease: %s", said)
	}
	h.eventually("lingering is off", "test -z \"$(find /var/lib/elogind/linger /home/alice/.local/state/tokenfs -type f)\"")
}
