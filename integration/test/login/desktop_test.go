package login

import (
	"strings"
	"sync"
	"testing"
	"time"

	ends "tokenfs/lifecycle/session"
)

// desktop has a display manager, and everything else is as it comes: logind lets
// a user manager live on for 10 s, and the grace is as long.
var desktop = sync.OnceValues(func() (*machine, error) {
	m, err := boot(home, "desktop")
	if err == nil {
		_, err = m.as("rm /etc/tokenfs/config")
	}
	return m, err
})

// newDesktopUser is newUser on that machine.
func newDesktopUser(t *testing.T) user {
	t.Helper()
	if !*all {
		t.Skip("NOT RUN: wants another system, with a display manager, to be built: sudo make test-login")
	}
	if noneAs != nil {
		t.Fatal(noneAs)
	}
	m, err := desktop()
	if err != nil {
		t.Fatal(err)
	}
	return m.newUser(t)
}

// display is an X server without a screen. What lightdm says of terminals is not
// for one that has none; neither has the container, so logind would refuse a
// session on one (prepare).
const display = `#!/bin/sh
while [ $# -gt 0 ]; do
	case $1 in
	:*) display=$1 ;;
	-auth) auth=$2; shift ;;
	esac
	shift
done
exec Xvfb $display -auth $auth -nolisten tcp
`

const prepare = `cat >/usr/local/bin/display && chmod 755 /usr/local/bin/display &&
echo 'XDG_VTNR DEFAULT=0' >>/etc/security/pam_env.conf`

// session is what the user's desktop does: at once, and until it is told to end.
const desktopSession = `#!/bin/sh
{
	grep -c " $XDG_RUNTIME_DIR/tokenfs " /proc/self/mountinfo
	` + put + `
	loginctl show-session $XDG_SESSION_ID -p Service -p Class -p Type | xargs
	xdpyinfo | grep "^name of display"
} >~/said.new 2>&1
mv ~/said.new ~/said
until [ -e ~/leave ]; do sleep 0.1; done
`

// A graphical session is a login as any other; a display manager's greeter is not.
// Not parallel: there is one seat.
func TestDesktop(t *testing.T) {
	u := newDesktopUser(t)
	prepared := u.root(prepare)
	prepared.Stdin = strings.NewReader(display)
	u.must(run(prepared))
	greeter := u
	greeter.name = "lightdm"
	for _, who := range []string{"a system user", "an ordinary one"} {
		greeter.uid = u.must(u.as("id -u lightdm"))
		u.must(u.as("printf '[LightDM]\nlogind-check-graphical=false\n[Seat:*]\nxserver-command=/usr/local/bin/display\nautologin-user=" + u.name + "\n' >/etc/lightdm/lightdm.conf"))
		home := "~" + u.name
		script := u.root("rm -f " + home + "/said " + home + "/leave; cat >" + home + "/.xsession && chown " + u.name + " " + home + "/.xsession && chmod 700 " + home + "/.xsession && systemctl start lightdm")
		script.Stdin = strings.NewReader(desktopSession)
		u.must(run(script))
		var said string
		u.eventually("a session on the display begins", func() bool { said, _ = u.as("cat " + home + "/said 2>/dev/null"); return said != "" })
		if want := "1\nService=lightdm-autologin Type=x11 Class=user\nname of display:    :0"; said != want {
			t.Errorf("the session said %q, want %q", said, want)
		}
		u.must(u.as("touch " + home + "/leave"))
		left := time.Now()
		const ask = "loginctl show-seat seat0 -p ActiveSession --value | xargs loginctl show-session -p Service -p Class -p Type -p State | xargs"
		u.eventually("a greeter's session begins", func() bool {
			said, _ := u.as(ask)
			return said == "Service=lightdm-greeter Type=x11 Class=greeter State=active"
		})
		u.eventually("the greeter's user manager has started what it starts", func() bool {
			_, err := u.as("systemctl --user --machine lightdm@ is-active default.target")
			return err == nil
		})
		u.eventually("the greeter runs", func() bool { _, err := u.as("pgrep --uid lightdm --full gtk-greeter"); return err == nil })
		state := u.must(u.as("systemctl --user --machine lightdm@ show tokenfs -p ActiveState,Result,ConditionResult --value | xargs"))
		if greeter.mounted() || greeter.keeper() != "" || !strings.Contains(state, "success inactive") {
			t.Errorf("the greeter, %s, has its own: mounted %v; its unit is %s", who, greeter.mounted(), state)
		}
		u.eventually("the token is gone", func() bool { return u.look("cat $XDG_RUNTIME_DIR/tokenfs/token 2>/dev/null") == "" })
		wiped := time.Since(left).Round(10 * time.Millisecond)
		u.gone()
		took := time.Since(left).Round(10 * time.Millisecond)
		if greeter.mounted() || greeter.keeper() != "" {
			t.Errorf("the greeter, %s, has its own by now", who)
		}
		u.seen("mounted at the first command of a session of lightdm's (Type=x11, Class=user); its token was gone %v after it, everything %v after it; the greeter, %s (uid %s, Class=greeter), has none", wiped, took, who, greeter.uid)
		u.must(u.as("systemctl stop lightdm"))
		greeter.gone()
		u.must(u.as("usermod --uid 1500 lightdm && chown -R lightdm /var/lib/lightdm /var/log/lightdm"))
	}
}

// What a user has who has set nothing, on a machine as it comes.
func TestDefaults(t *testing.T) {
	t.Parallel()
	u, busy := newDesktopUser(t), newDesktopUser(t)
	u.login(put)
	left := time.Now()
	time.Sleep(7 * time.Second) // the time away is what is tested: most of the grace
	said, _ := run(u.ssh(u.name, "cat $XDG_RUNTIME_DIR/tokenfs/token"))
	if away := time.Since(left); said != "secret" && away < ends.DefaultGrace {
		t.Errorf("after %v the next login read %q", away, said)
	}
	left = time.Now()
	busy.login(put + "; nohup sleep 1000 >/dev/null 2>&1 &")
	busyLeft := time.Now()
	empty := func(u user) func() bool {
		return func() bool { return u.look("cat $XDG_RUNTIME_DIR/tokenfs/token 2>/dev/null") == "" }
	}
	u.eventually("the token is gone", empty(u))
	took := time.Since(left).Round(10 * time.Millisecond)
	busy.eventually("the token is gone", empty(busy))
	busyTook := time.Since(busyLeft).Round(10 * time.Millisecond)
	for _, d := range []time.Duration{took, busyTook} {
		if d < ends.DefaultGrace-time.Second {
			t.Errorf("the token was gone after %v", d)
		}
	}
	u.gone()
	u.seen("with no setting at all the token was there for a login 7 s after a logout, and gone %v after the last one; mount, processes and /run/user/UID after %v", took, time.Since(left).Round(10*time.Millisecond))
	if !busy.mounted() {
		t.Error("a process was left over, and nothing is mounted any more")
	}
	busy.seen("with a nohup'd process it was gone after %v, and the mount stayed, empty", busyTook)
	busy.as("pkill --uid " + busy.name + " sleep")
	busy.gone()
}
