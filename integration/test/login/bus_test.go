package login

import (
	"testing"
)

// state is one value of what the user's status says of the session.
func (u user) state(name string) string {
	return u.look(`tokenfs status --json | sed -n "s/.*\"` + name + `\": *\([^,]*\),\$/\1/p"`)
}

// Who follows logins over the system bus finds it again when it was lost.
// Not parallel: there is one such bus.
func TestBusLost(t *testing.T) {
	stays, leaves, waits := newUser(t), newUser(t), newUser(t)
	// Without lingering the end of the user manager would be that of the token, too.
	stays.must(stays.as("loginctl enable-linger " + stays.name))
	a := stays.open()
	a.do(put)
	b := leaves.open()
	b.do(put)
	su := waits.root("su --login " + waits.name + " --command 'sleep 600'")
	if err := su.Start(); err != nil {
		t.Fatal(err)
	}
	waits.eventually("the user manager runs because of su, and nothing is mounted for that", func() bool {
		return waits.look("systemctl --user show --property StatusText --value tokenfs") == "waiting for a login"
	})

	start := func() { t.Helper(); stays.must(stays.as("systemctl start dbus.socket dbus.service")) }
	defer start()
	stays.must(stays.as("systemctl stop dbus.socket dbus.service"))
	stays.eventually("the follower knows that it does not know", func() bool { return stays.state("logins") == "-1" })
	if said := stays.state("follows_logins"); said != "true" {
		t.Errorf("without a bus it follows logins: %s", said)
	}
	if said := a.do("cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
		t.Errorf("without a bus the token reads %q", said)
	}
	b.end()
	if waits.mounted() {
		t.Error("mounted for su when the bus was lost")
	}
	start()
	back := stays.eventually("the follower counts again", func() bool { return stays.state("logins") == "1" })
	stays.seen("with the system bus stopped a token stayed; %v after it was back logins were counted again", back)
	took := leaves.gone()
	stays.seen("everything of a user who had logged out meanwhile was gone after %v", took)

	a.end()
	stays.seen("a logout after that, with linger on, wiped after %v (grace %s)", stays.wiped(), grace)

	if waits.mounted() {
		t.Error("mounted for su when the bus was back")
	}
	s := waits.open()
	took = waits.eventually("mounted for the login", func() bool { return s.do("tokenfs status >/dev/null 2>&1 && echo ok") == "ok" })
	waits.seen("a filesystem that had waited for a login was mounted for one %v after its first command", took)
	s.end()
	waits.as("pkill --uid " + waits.name + " sleep")
	su.Wait()
	waits.gone()
}

// The bus and logind can be killed and restarted at any time.
// Not parallel: all users have the same ones.
func TestBusRestarted(t *testing.T) {
	u := newUser(t)
	u.must(u.as("loginctl enable-linger " + u.name))
	s := u.open()
	for _, how := range []string{
		"systemctl restart systemd-logind",
		"systemctl kill --signal KILL systemd-logind",
		"systemctl restart dbus.service",
		"systemctl kill --signal KILL dbus.service",
	} {
		if said := s.do("ls $XDG_RUNTIME_DIR/tokenfs; tokenfs status --json | grep -c '\"follows_logins\": true'"); said != "1" {
			t.Errorf("before %s: %q", how, said)
		}
		s.do(put)
		// Who is restarted too often is not started any more.
		u.must(u.as("systemctl reset-failed dbus.service dbus.socket systemd-logind.service; " + how))
		if said := s.do("cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
			t.Errorf("after %s: %q", how, said)
		}
		s.end()
		took := u.wiped()
		u.seen("after %s a token was there, and wiped %v after the logout (grace %s)", how, took, grace)
		s = u.open()
	}
	s.end()
}

// A bus that refuses just when the keeper starts does not turn off that a logout
// wipes. Without lingering the end of the user manager would wipe, too.
// Not parallel: there is one such bus.
func TestBusRefusesAtTheStart(t *testing.T) {
	u := newUser(t)
	u.must(u.as("loginctl enable-linger " + u.name))
	s := u.open()
	start := func() { t.Helper(); u.must(u.as("systemctl start dbus.socket dbus.service")) }
	defer start()
	u.must(u.as("systemctl stop dbus.socket dbus.service"))
	if said := s.do("systemctl --user restart tokenfs && tokenfs status --json | grep follows_logins | tr -d ' ,'"); said != `"follows_logins":true` {
		t.Errorf("started while the bus refuses: %q", said)
	}
	s.do(put)
	start()
	u.eventually("logins are counted", func() bool { return u.state("logins") == "1" })
	s.end()
	u.seen("started while the bus refused, it wiped %v after the logout (grace %s)", u.wiped(), grace)
}
