package login

import (
	"strings"
	"testing"
	"time"
)

// lingers asks logind's own record: it need not know the user at the moment.
func (u user) lingers() bool {
	_, err := u.as("test -e /var/lib/systemd/linger/" + u.name)
	return err == nil
}

// noted says whether a note on disk says that lingering was switched on.
func (u user) noted() bool {
	_, err := u.as("ls ~" + u.name + "/.local/state/tokenfs/linger-*")
	return err == nil
}

func TestHold(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	said := u.login(put + "; tokenfs hold 12s; tokenfs status | grep ^lease")
	left := time.Now()
	if !strings.HasPrefix(said, "held until ") || !strings.Contains(said, " until ") {
		t.Errorf("hold: %q", said)
	}
	if !u.lingers() || !u.noted() {
		t.Errorf("lingers %v, noted %v", u.lingers(), u.noted())
	}
	u.outlive()
	said, _ = run(u.ssh(u.name, "cat $XDG_RUNTIME_DIR/tokenfs/token"))
	if away := time.Since(left); said != "secret" && away < 12*time.Second {
		t.Errorf("%v later: %q\n%s", away, said, u.journal())
	}
	u.gone()
	took := time.Since(left).Round(10 * time.Millisecond)
	if u.lingers() || u.noted() {
		t.Errorf("afterwards: lingers %v, noted %v", u.lingers(), u.noted())
	}
	u.seen("with tokenfs hold 12s the token was there for a login after all of a later one had gone, thanks to lingering; %v after the hold everything was gone, lingering and the note on disk, too", took)
}

// outlive returns when a login that comes later has ended, with its grace, its
// user manager, and all that it had.
func (u user) outlive() {
	u.Helper()
	later := u.newUser(u.T)
	later.login(put)
	later.gone()
}

// held runs a program that goes on in the background, logs out, and finds token
// and program at the next login.
func (u user) held(name, start, check, end string) {
	u.Helper()
	said := u.login(put + "; export LC_ALL=C.UTF-8; tokenfs hold -- " + start)
	u.outlive()
	if u.lingers() {
		u.Errorf("%s: lingering is on without need", name)
	}
	now := u.login("cat $XDG_RUNTIME_DIR/tokenfs/token; " + check + "; tokenfs status | grep ^lease")
	if !strings.HasPrefix(now, "secret\n") || !strings.Contains(now, "while "+name+" runs") {
		u.Errorf("%s said %q; at the next login: %q\n%s", name, said, now, u.journal())
	}
	u.login(end)
	took := u.gone()
	u.seen("tokenfs hold -- %s: when all of a later login had gone, the next one found the token, and %s alive; everything was gone %v after it ended", start, name, took)
}

func TestHoldTmux(t *testing.T) {
	t.Parallel()
	newUser(t).held("tmux", "tmux new-session -d -s work", "tmux has-session -t work", "tmux kill-server")
}

func TestHoldScreen(t *testing.T) {
	t.Parallel()
	newUser(t).held("screen", "screen -d -m -S work", "screen -ls | grep -q work", "screen -S work -X quit")
}

// Interactively, tmux's client ends when the terminal goes.
func TestHoldTerminal(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.ssh(u.name, put+"; tokenfs hold -- tmux new-session -s work", "-tt")
	in, err := s.StdinPipe()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	u.eventually("tmux runs", func() bool { return u.look("tmux has-session -t work && echo ok") == "ok" })
	s.Process.Kill() // as a connection that is lost
	in.Close()
	s.Wait()
	u.outlive()
	if said := u.login("cat $XDG_RUNTIME_DIR/tokenfs/token; tmux kill-server"); said != "secret" {
		t.Errorf("after the connection was lost: %q", said)
	}
	u.seen("a tmux in a terminal whose connection was lost kept the token for the next login; gone %v after", u.gone())
}

func TestHoldCommand(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	for script, want := range map[string]string{
		"tokenfs hold -- sh -c 'exit 7'; echo $?":              "7",
		"tokenfs hold -- sh -c 'kill -9 $$'; echo $?":          "137",
		"tokenfs hold -- cat <<<input; echo $?":                "input\n0",
		"tokenfs hold -- no-such-command 2>/dev/null; echo $?": "127",
		"tokenfs hold -- /etc/passwd 2>/dev/null; echo $?":     "126",
		"tokenfs hold 2>/dev/null; echo $?":                    "2",
		"tokenfs hold 0s 2>/dev/null; echo $?":                 "2",
		"tokenfs release 9 2>/dev/null; echo $?":               "1",
		// SIGTERM reaches the command.
		"tokenfs hold -- sh -c 'trap \"exit 3\" TERM; echo up >~/up; while :; do sleep 0.1; done' & until [ -e ~/up ]; do sleep 0.05; done; kill $!; wait $!; echo $?": "3",
	} {
		if said := s.do(script); said != want {
			t.Errorf("%s: %q, want %q", script, said, want)
		}
	}
	u.eventually("no lease is left", func() bool { return s.do("tokenfs status | grep -c ^lease") == "0" })

	// Leases outlive an upgrade, until they are released.
	s.do("tokenfs hold 1h; sleep 1000 & tokenfs hold -- sh -c 'sleep 1001 & exit 0'")
	said := s.do("tokenfs upgrade; tokenfs status | grep ^lease")
	if !strings.Contains(said, "until") || !strings.Contains(said, "while sh runs") {
		t.Errorf("after an upgrade: %q", said)
	}
	s.do("pkill -f 'sleep 1001'")
	u.eventually("the command's lease ends with what it left", func() bool { return s.do("tokenfs status | grep -c ^lease") == "1" })
	if said := s.do("tokenfs release; tokenfs status | grep -c ^lease"); said != "released 1 lease\n0" {
		t.Errorf("release: %q", said)
	}
	u.eventually("lingering is off", func() bool { return !u.lingers() && !u.noted() })
	// Who asks for lingering during a lease, has it afterwards.
	if said := s.do("tokenfs hold 1h >/dev/null && loginctl enable-linger && tokenfs release"); said != "released 1 lease" {
		t.Errorf("hold, linger, release: %q", said)
	}
	u.eventually("the note is gone", func() bool { return !u.noted() })
	if !u.lingers() {
		t.Error("lingering was switched off that its user had asked for")
	}
	s.do("loginctl disable-linger")
	u.seen("exit statuses and SIGTERM are passed on; leases went through an upgrade and ended with their command, and by release")
	s.do("kill %1")
	s.end()
	u.gone()
}

// Where policy refuses lingering, hold says so, and promises nothing.
func TestHoldRefused(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must(u.as(`printf 'polkit.addRule(function(action, subject) { if (action.id == "org.freedesktop.login1.set-self-linger" && subject.user == "` + u.name +
		`") return polkit.Result.NO; });\n' >/etc/polkit-1/rules.d/10-` + u.name + `.rules`))
	s := u.open()
	u.eventually("polkit has read its rules", func() bool {
		return s.do("loginctl enable-linger >/dev/null 2>&1 && loginctl disable-linger || echo no") == "no"
	})
	said := s.do("tokenfs hold 1h; echo $?; tokenfs status | grep -c ^lease")
	if !strings.Contains(said, "lingering is refused") || !strings.HasSuffix(said, "\n6\n0") || u.noted() {
		t.Errorf("hold: %q, noted %v", said, u.noted())
	}
	if said := s.do("tokenfs hold -- echo done"); said != "done" {
		t.Errorf("hold of a command: %q", said)
	}
	u.seen("with lingering refused by polkit, hold 1h says: %s", strings.SplitN(said, "\n", 2)[0])
	s.end()
	u.gone()
}

// What a crash leaves switched on is switched off again.
func TestHoldCrash(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := u.open()
	s.do("tokenfs hold 1h")
	if !u.lingers() {
		t.Fatal("does not linger")
	}
	old := u.keeper()
	u.must(u.as("kill -9 " + old))
	took := u.eventually("lingering is off", func() bool { return !u.lingers() && !u.noted() })
	u.seen("after kill -9 of a keeper with a lease lingering was off in %v", took)

	u.eventually("the next keeper", func() bool { return s.do("tokenfs status >/dev/null 2>&1 && echo ok") == "ok" })
	s.do("tokenfs hold 1h")
	if !u.lingers() {
		t.Fatal("does not linger")
	}
	// As after a power failure: nobody had the time to put anything back.
	u.must(u.as("systemctl kill --signal KILL --kill-who main user@" + u.uid))
	u.eventually("everything has ended", func() bool { return !u.mounted() && u.keeper() == "" })
	s.end()
	was := u.lingers()
	u.eventually("logind forgets the session", func() bool {
		return u.must(u.as("loginctl list-sessions --no-legend | grep -c '"+u.name+" ' || :")) == "0"
	})
	u.login("true")
	took = u.eventually("lingering is off", func() bool { return !u.lingers() && !u.noted() })
	u.seen("after kill -9 of the user manager lingering was on (%v), and off %v after the next login", was, took)
	u.gone()
}

// Where a login's processes end with it, a command that is to be held has to be
// started outside of the login, and hold says so. Not parallel: this is a setting
// of the machine's.
func TestKillUserProcesses(t *testing.T) {
	u := newUser(t)
	const conf = "/etc/systemd/logind.conf.d/kill.conf"
	u.must(u.as("printf '[Login]\nKillUserProcesses=yes\n' >" + conf + " && systemctl restart systemd-logind"))
	defer func() { u.must(u.as("rm " + conf + " && systemctl restart systemd-logind")) }()
	said := u.login("tokenfs hold -- true; echo $?; tokenfs hold 30s >/dev/null; echo $?")
	if !strings.Contains(said, "KillUserProcesses=yes") || !strings.HasSuffix(said, "\n6\n0") {
		t.Errorf("hold: %q", said)
	}
	// It can be restarted at any time.
	s := u.open()
	s.do("tokenfs release; " + put)
	u.must(u.as("systemctl restart systemd-logind"))
	s.end()
	u.gone()
	u.login(put + "; systemd-run --quiet --user --scope tokenfs hold -- tmux new-session -d -s work; nohup sleep 1000 >/dev/null 2>&1 &")
	u.outlive()
	if now := u.login("cat $XDG_RUNTIME_DIR/tokenfs/token; tmux has-session -t work; pgrep -c sleep; tmux kill-server"); now != "secret\n0" {
		t.Errorf("at the next login: %q\n%s", now, u.journal())
	}
	u.gone()
	if u.lingers() || u.noted() {
		t.Errorf("afterwards: lingers %v, noted %v", u.lingers(), u.noted())
	}
	u.seen("with KillUserProcesses=yes hold -- COMMAND is refused and says what to do: systemd-run --user --scope tokenfs hold -- tmux kept token and tmux, while a nohup'd process was killed")
}
