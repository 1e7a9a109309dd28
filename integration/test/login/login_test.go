package login

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// The first command of a login finds the filesystem; after the last logout
// nothing is left of it.
func TestLogin(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	if u.mounted() {
		t.Fatal("mounted before the login")
	}
	start := time.Now()
	said := u.login(`grep -c " $XDG_RUNTIME_DIR/tokenfs " /proc/self/mountinfo; echo secret >$XDG_RUNTIME_DIR/tokenfs/token; cat $XDG_RUNTIME_DIR/tokenfs/token`)
	if said != "1\nsecret" {
		t.Fatalf("the first command saw %q", said)
	}
	u.seen("mounted at the first command; login, command and logout took %v", time.Since(start).Round(10*time.Millisecond))
	u.seen("after the logout mount, processes and /run/user/UID were gone in %v (logind waits 2 s of it)", u.gone())
	if said := u.login(`ls $XDG_RUNTIME_DIR/tokenfs`); said != "" {
		t.Errorf("the next login found %q", said)
	}
}

func TestTwoSessions(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	a := u.open()
	a.do("echo secret >$XDG_RUNTIME_DIR/tokenfs/token")
	b := u.open()
	a.end()
	u.eventually("logind forgets the first session", func() bool {
		return len(strings.Fields(u.must(u.as("loginctl show-user "+u.name+" --property Sessions --value")))) == 1
	})
	time.Sleep(3 * time.Second) // longer than the user manager outlives a last session
	if said := b.do("cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
		t.Fatalf("after the first of two logouts: %q", said)
	}
	b.end()
	u.seen("the token was there after the first of two logouts; everything was gone %v after the second", u.gone())
}

// A keeper that is killed takes the keys along; systemd starts another.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	s.do("echo secret >$XDG_RUNTIME_DIR/tokenfs/token")
	old := u.keeper()
	u.must(u.as("kill -9 " + old))
	took := u.eventually("a filesystem that works", func() bool {
		return u.keeper() != "" && u.keeper() != old && s.do("touch $XDG_RUNTIME_DIR/tokenfs/new && echo ok") == "ok"
	})
	if said := s.do("ls $XDG_RUNTIME_DIR/tokenfs"); said != "new" {
		t.Errorf("afterwards it held %q", said)
	}
	if n := u.must(u.as("grep -c ' " + u.mountpoint() + " ' /proc/self/mountinfo")); n != "1" {
		t.Errorf("%s mounts", n)
	}
	u.seen("after kill -9 of the keeper a fresh filesystem was there in %v", took)
	s.end()
	u.gone()
}

// A keeper that is killed again and again is given up, and leaves no dead mount.
func TestKeeperGivenUp(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	u.eventually("systemd gives up", func() bool {
		if pid := u.keeper(); pid != "" {
			u.as("kill -9 " + pid)
		}
		return s.do("systemctl --user is-failed tokenfs") == "failed"
	})
	if said := s.do("tokenfs status"); u.mounted() || !strings.Contains(said, "ended from outside (signal)") {
		t.Errorf("afterwards: %q\n%s", said, s.do("journalctl --user --no-pager -n 60"))
	}
	u.seen("after kill -9 of five keepers within a minute: no mount, and status says that it was ended from outside")
	s.end()
	u.gone()
}

func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	s.do("echo secret >$XDG_RUNTIME_DIR/tokenfs/token")
	u.must(u.as("pkill -9 --exact tokenfs-worker --uid " + u.name))
	if said := s.do("cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
		t.Errorf("afterwards: %q", said)
	}
	u.seen("after kill -9 of the worker the token is there: %s", s.do("systemctl --user is-active tokenfs"))
	s.end()
	u.gone()
}

// A user manager that is killed takes everything along that it runs, and
// nothing that it was to do afterwards is done.
func TestManagerKilled(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	s.do("echo secret >$XDG_RUNTIME_DIR/tokenfs/token")
	u.must(u.as("systemctl kill --signal KILL --kill-who main user@" + u.uid))
	took := u.eventually("the mount is gone", func() bool { return !u.mounted() && u.keeper() == "" })
	if said := s.do("echo plain >$XDG_RUNTIME_DIR/tokenfs/token; tokenfs status"); !strings.Contains(said, "Permission denied") || !strings.Contains(said, "nothing is mounted") {
		t.Errorf("afterwards: %q", said)
	}
	u.seen("after kill -9 of the user manager mount and keeper were gone in %v; an app gets EACCES", took)
	s.end()
	u.gone()
}

// So it is where the settings have it mounted elsewhere.
func TestManagerKilledElsewhere(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	place := u.elsewhere()
	mounted := func() bool { _, err := u.as("grep -q ' " + place + " ' /proc/self/mountinfo"); return err == nil }
	s := u.open()
	if !mounted() {
		t.Fatalf("nothing is mounted on %s: %s", place, s.do("tokenfs status"))
	}
	u.must(u.as("systemctl kill --signal KILL --kill-who main user@" + u.uid))
	took := u.eventually("the mount is gone", func() bool { return !mounted() && u.keeper() == "" })
	u.seen("after kill -9 of the user manager a mount elsewhere and its keeper were gone in %v", took)
	s.end()
	u.gone()
}

// What systemd and a package do to a running service changes nothing for apps.
func TestReexecAndReload(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	s.do("exec 5<>$XDG_RUNTIME_DIR/tokenfs/token; echo secret >&5")
	if said := s.do("systemctl --user daemon-reexec; systemctl --user daemon-reload; cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
		t.Errorf("after daemon-reexec: %q", said)
	}
	if said := s.do("systemctl --user reload tokenfs; systemctl --user is-active tokenfs; echo more >&5; cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "active\nsecret\nmore" {
		t.Errorf("after a reload: %q\n%s", said, u.journal())
	}
	if said := s.do("tokenfs upgrade >/dev/null; systemctl --user is-active tokenfs; tokenfs status --json | grep -o '\"upgrades\": *[0-9]*'; cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "active\n\"upgrades\": 2\nsecret\nmore" {
		t.Errorf("after an upgrade: %q\n%s", said, u.journal())
	}
	// systemd gives a reload no more time than a start; the keeper asks for more.
	slow := `mkdir -p ~/.config/systemd/user/tokenfs.service.d && printf '[Service]\nExecReload=\nExecReload=/bin/sh -c "tokenfs upgrade && sleep 3"\n' >~/.config/systemd/user/tokenfs.service.d/slow.conf && systemctl --user daemon-reload`
	if said := s.do(slow + "; systemctl --user reload tokenfs && echo reloaded; cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "reloaded\nsecret\nmore" {
		t.Errorf("after a slow reload: %q\n%s", said, u.journal())
	}
	u.seen("an open file went through daemon-reexec, daemon-reload, reload (an upgrade) and tokenfs upgrade")
	s.end()
	u.gone()
}

// systemd has nothing to say against the units.
func TestUnits(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	if said := s.do("systemd-analyze --user verify tokenfs.service"); said != "" {
		t.Errorf("the user unit: %s", said)
	}
	if said := u.must(u.as("systemd-analyze --man=no verify user@" + u.uid + ".service 2>&1")); said != "" {
		t.Errorf("user@.service: %s", said)
	}
	u.seen("systemd-analyze verify finds nothing; %s", s.do("systemd-analyze --user --no-pager security tokenfs.service | tail -n 1; tokenfs status -v | grep ^memory"))
	s.end()
	u.gone()
}

func TestConsole(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	console := u.root("script --quiet --return --command 'login -f " + u.name + "' /dev/null")
	console.Stdin = strings.NewReader(put + "\ncat $XDG_RUNTIME_DIR/tokenfs/token | tr a-z A-Z\nloginctl show-session $XDG_SESSION_ID -p Service -p Class -p Type | xargs\nexit\n")
	said := u.must(run(console))
	if !strings.Contains(said, "SECRET") || !strings.Contains(said, "Service=login Type=tty Class=user") {
		t.Errorf("the console said %q", said)
	}
	u.seen("mounted at the first command of a login on a console; everything was gone %v after it", u.gone())
}

// A service of the user's needs no dependency to find the filesystem.
func TestService(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must(u.as("su " + u.name + ` --command 'mkdir -p ~/.config/systemd/user/default.target.wants && printf "[Service]\nType=oneshot\nExecStart=sh -c \"date >%%t/tokenfs/token\"\n" >~/.config/systemd/user/app.service && ln -s ../app.service ~/.config/systemd/user/default.target.wants/'`))
	s := u.open()
	u.eventually("the service has ended", func() bool { return s.do("systemctl --user show --property SubState --value app") == "dead" })
	if said := s.do("systemctl --user show --property Result --value app; cat $XDG_RUNTIME_DIR/tokenfs/token"); !strings.HasPrefix(said, "success\n") || !strings.Contains(said, ":") {
		t.Errorf("the service's file: %q\n%s", said, u.journal())
	}
	u.seen("a user service wanted by default.target wrote its file there")
	s.end()
	u.gone()
}

func TestManyLogins(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	const many = 12
	var all sync.WaitGroup
	said := make([]string, many)
	for i := range many {
		all.Go(func() {
			said[i], _ = run(u.ssh(u.name, fmt.Sprintf("echo %d >$XDG_RUNTIME_DIR/tokenfs/%[1]d; until [ $(ls $XDG_RUNTIME_DIR/tokenfs | wc -l) = %d ]; do sleep 0.1; done; cat $XDG_RUNTIME_DIR/tokenfs/%[1]d", i, many)))
		})
	}
	all.Wait()
	for i, s := range said {
		if s != fmt.Sprint(i) {
			t.Errorf("login %d said %q", i, s)
		}
	}
	u.seen("%d logins at once, the first ones of this user, had one filesystem at their first command; everything was gone %v after the last one", many, u.gone())
}
