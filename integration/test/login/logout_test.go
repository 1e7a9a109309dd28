package login

import (
	"strings"
	"testing"
	"time"
)

// grace is everybody's in the machine, so that tests are short.
const grace = "1s"

// set writes the user's own settings, for the next login.
func (u user) set(lines string) {
	u.Helper()
	u.must(u.as("install -d -o " + u.name + " ~" + u.name + "/.config ~" + u.name + "/.config/tokenfs && printf '" +
		strings.ReplaceAll(lines, "\n", `\n`) + "\n' >~" + u.name + "/.config/tokenfs/config"))
}

// look runs a script as the user, in no login session, as a service could.
func (u user) look(script string) string {
	u.Helper()
	said, _ := u.as("setpriv --reuid " + u.name + " --regid " + u.name + " --clear-groups env HOME=/home/" + u.name +
		" XDG_RUNTIME_DIR=/run/user/" + u.uid + " bash -c '" + script + "' 2>&1")
	return said
}

func (u user) wiped() time.Duration {
	u.Helper()
	took := u.eventually("the filesystem is empty", func() bool { return u.look("ls $XDG_RUNTIME_DIR/tokenfs") == "" })
	if !u.mounted() || u.keeper() == "" {
		u.Fatalf("nothing is mounted any more\n%s", u.journal())
	}
	return took
}

const put = "echo secret >$XDG_RUNTIME_DIR/tokenfs/token"

// A process that is left over keeps the user manager alive, but not the token.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.login(put + "; exec 5<>$XDG_RUNTIME_DIR/tokenfs/token; echo before >&5; nohup sh -c 'while sleep 0.2; do echo more >&5 || echo refused >>~/refused; done' >/dev/null 2>&1 &")
	keeper := u.keeper()
	took := u.wiped()
	if u.keeper() != keeper {
		t.Error("another keeper is there")
	}
	u.eventually("the process that is left gets errors", func() bool { return u.look("cat ~/refused") != "" })
	if said := u.must(u.as("loginctl show-user " + u.name + " --property State --value")); said != "closing" {
		t.Errorf("the user is %q", said)
	}
	u.seen("with a nohup'd process that writes to an open file everything was wiped %v after the logout (grace %s); the process gets errors, the mount stays, empty", took, grace)
	u.must(u.as("pkill --uid " + u.name + " -f refused"))
	u.seen("the rest was gone %v after the process", u.gone())
}

func TestLinger(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must(u.as("loginctl enable-linger " + u.name))
	u.eventually("it is mounted without a login", func() bool { return u.mounted() && u.look("tokenfs status") != "" })
	if said := u.login("ls $XDG_RUNTIME_DIR/tokenfs; " + put + "; cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
		t.Errorf("the first login: %q", said)
	}
	took := u.wiped()
	if said := u.login("ls $XDG_RUNTIME_DIR/tokenfs; " + put); said != "" {
		t.Errorf("the next login found %q", said)
	}
	u.wiped()
	u.seen("with linger on everything was wiped %v after the logout (grace %s), twice; the mount stayed, empty", took, grace)
}

func TestKeep(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.set("on-logout = keep\ngrace = 0s")
	u.must(u.as("loginctl enable-linger " + u.name))
	u.login(put)
	u.eventually("logind forgets the session", func() bool {
		return u.must(u.as("loginctl show-user "+u.name+" --property Sessions --value")) == ""
	})
	time.Sleep(time.Second)
	if said := u.login("cat $XDG_RUNTIME_DIR/tokenfs/token"); said != "secret" {
		t.Errorf("the next login read %q", said)
	}
	u.seen("with linger and on-logout = keep the next login found the token")
}

// A grace may be longer than the user manager would live on, which is 2 s here.
func TestGrace(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.set("grace = 8s")
	u.login(put)
	left := time.Now()
	time.Sleep(4 * time.Second)
	said, _ := run(u.ssh(u.name, "cat $XDG_RUNTIME_DIR/tokenfs/token"))
	if away := time.Since(left); said != "secret" && away < 8*time.Second {
		t.Errorf("after %v the next login read %q\n%s", away, said, u.journal())
	}
	gone := u.gone()
	if gone < 7*time.Second {
		t.Errorf("everything was gone in %v", gone)
	}
	if said := u.must(u.as("loginctl show-user " + u.name + " --property Linger --value 2>/dev/null || ls /var/lib/systemd/linger")); strings.Contains(said, "yes") || strings.Contains(said, u.name) {
		t.Errorf("lingering was not put back: %q", said)
	}
	u.seen("with a grace of 8s the token was there for a login 4 s after a logout; everything was gone %v after the last one, and lingering off again", gone)
}

// What changes user or runs jobs opens no login session, whatever PAM is told.
func TestNoLogin(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	said := u.must(u.as("su --login " + u.name + " --command 'echo $XDG_RUNTIME_DIR; systemctl --user is-active tokenfs; systemctl --user show --property StatusText --value tokenfs; tokenfs status' 2>&1 || :"))
	if u.mounted() || !strings.HasPrefix(said, "/run/user/"+u.uid+"\nactive\nwaiting for a login\n") || !strings.Contains(said, "nothing is mounted") {
		t.Errorf("su: mounted %v, said %q", u.mounted(), said)
	}
	u.gone()
	said, _ = u.as("sudo --user " + u.name + " tokenfs status 2>&1")
	if u.mounted() || !strings.Contains(said, "does not exist: log in") {
		t.Errorf("sudo: mounted %v, said %q", u.mounted(), said)
	}
	u.seen("su and sudo mount nothing; sudo's tokenfs status says: %s", said)

	// Who logs in while su is there has it mounted.
	su := u.root("su --login " + u.name + " --command 'sleep 60'")
	if err := su.Start(); err != nil {
		t.Fatal(err)
	}
	u.eventually("the user manager runs because of su", func() bool { return u.keeper() != "" })
	s := u.open()
	took := u.eventually("mounted for the login", func() bool { return s.do("tokenfs status >/dev/null 2>&1 && echo ok") == "ok" })
	s.do(put)
	if said, _ := u.as("sudo --user " + u.name + " sh -c 'cat /run/user/" + u.uid + "/tokenfs/token && tokenfs status >/dev/null && echo found'"); said != "secret\nfound" {
		t.Errorf("sudo, without XDG_RUNTIME_DIR and during a login: %q", said)
	}
	s.end()
	u.wiped()
	u.seen("with su's session there before, a login had its mount after %v more; its logout wiped, with su still there", took)
	u.as("pkill --uid " + u.name + " sleep")
	su.Wait()
	u.gone()
}

// Who has no XDG_RUNTIME_DIR finds the filesystem, or is told why there is none.
func TestCron(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	cron := func() (said string) {
		u.must(u.as("rm -f ~" + u.name + "/said && echo '@reboot { echo \"<$XDG_RUNTIME_DIR>\"; tokenfs status; } >~/new 2>&1; mv ~/new ~/said' | crontab -u " + u.name + " - && rm -f /run/crond.reboot && systemctl restart cron"))
		u.eventually("cron has run the job", func() bool {
			said, _ = u.as("cat ~" + u.name + "/said 2>/dev/null")
			return said != ""
		})
		return said
	}
	said := cron()
	if u.mounted() || !strings.HasPrefix(said, "<>\n") || !strings.Contains(said, "does not exist: log in") {
		t.Errorf("mounted %v, said %q", u.mounted(), said)
	}
	u.seen("cron mounts nothing; its job is told: %s", strings.TrimPrefix(said, "<>\n"))

	s := u.open()
	if said := cron(); !strings.HasPrefix(strings.Join(strings.Fields(said), " "), "<> mounted "+u.mountpoint()+", ") {
		t.Errorf("during a login cron's job said %q", said)
	}
	if said := s.do("env -u XDG_RUNTIME_DIR tokenfs status"); !strings.HasPrefix(strings.Join(strings.Fields(said), " "), "mounted "+u.mountpoint()+", ") {
		t.Errorf("in a login without XDG_RUNTIME_DIR: %q", said)
	}
	u.seen("during a login cron's job, and a command without XDG_RUNTIME_DIR, find the filesystem")
	s.end()
	u.gone()
}

// Root has none unless a setting says so, other system users never.
func TestSystemUsers(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must(u.as("useradd --system --create-home --shell /bin/bash daemon" + u.uid + " && usermod --password '*' daemon" + u.uid))
	system := u
	system.name, system.uid = "daemon"+u.uid, u.must(u.as("id -u daemon"+u.uid))
	said := system.login("systemctl --user show --property ActiveState,ConditionResult,Result --value tokenfs | xargs; tokenfs status 2>&1 || :")
	if system.mounted() || !strings.HasPrefix(said, "success inactive no\n") {
		t.Errorf("a system user: mounted %v, said %q", system.mounted(), said)
	}
	root := u
	root.name, root.uid = "root", "0"
	const state = "systemctl --user show --property ActiveState,Result --value tokenfs | xargs"
	if said := root.login(state); root.mounted() || said != "success inactive" {
		t.Errorf("root: mounted %v, said %q", root.mounted(), said)
	}
	root.eventually("root's user manager ends", func() bool { _, err := root.as("test -e /run/user/0"); return err != nil })
	u.must(u.as("mkdir -p /root/.config/tokenfs && echo 'root-logins = on' >/root/.config/tokenfs/config"))
	if said := root.login(put + "; cat $XDG_RUNTIME_DIR/tokenfs/token; " + state); said != "secret\nsuccess active" {
		t.Errorf("root, with root-logins = on: %q", said)
	}
	root.eventually("root's user manager ends", func() bool { _, err := root.as("test -e /run/user/0"); return err != nil })
	if root.mounted() {
		t.Error("root's is still mounted")
	}
	u.seen("a system user and root get no mount, and nothing fails; with root-logins = on root does")
}

// What a user mounted by hand ends with the login, too.
func TestByHand(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.must(u.as("install -d -o " + u.name + " ~" + u.name + "/.config ~" + u.name + "/.config/systemd ~" + u.name + "/.config/systemd/user && ln -s /dev/null ~" + u.name + "/.config/systemd/user/tokenfs.service"))
	if said := u.login("tokenfs mount && " + put + " && tokenfs status --json | grep -c '\"follows_logins\": true'"); !strings.HasSuffix(said, "\n1") {
		t.Errorf("by hand: %q", said)
	}
	u.seen("mounted by hand, everything was gone %v after the logout (grace %s)", u.gone(), grace)
}

// The filesystem of tokenfs run is its command's, and not the login's.
func TestRunOutlivesTheLogin(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.login("nohup tokenfs run -- sh -c 'echo mine >$XDG_RUNTIME_DIR/tokenfs/token; until [ -e ~/go ]; do sleep 0.1; done; cat $XDG_RUNTIME_DIR/tokenfs/token >~/said' >~/nohup 2>&1 </dev/null & " +
		"until grep -q . /proc/$!/comm && pgrep -f 'until .* ~/go' >/dev/null; do sleep 0.05; done; " + put)
	u.wiped()
	time.Sleep(2 * time.Second)
	u.must(u.as("touch ~" + u.name + "/go"))
	var said string
	u.eventually("the command ends", func() bool {
		said, _ = u.as("cat ~" + u.name + "/said 2>/dev/null")
		return said != "" || u.processes() == ""
	})
	if said != "mine" {
		t.Errorf("the command read %q; %s", said, u.must(u.as("cat ~"+u.name+"/nohup")))
	}
	u.seen("a nohup'd tokenfs run kept its filesystem when the login's was wiped; everything was gone %v after its command", u.gone())
}
