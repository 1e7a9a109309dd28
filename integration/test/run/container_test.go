package run

import (
	"strings"
	"testing"

	"tokenfs/integration/test/installed"
)

// inContainer runs a script as the user in what the user would find in a
// container: no systemd, nothing of the host in /run, another init.
func inContainer(u *installed.User, setup, script string) string {
	u.Helper()
	cmd := u.Program("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "sh", "-ec", setup+`
		exec setpriv --reuid `+uid(u)+` --regid `+uid(u)+` --clear-groups "$@"`, "sh", "sh", "-c", script)
	cmd.SysProcAttr = nil
	without(u, "XDG_RUNTIME_DIR")
	cmd.Env = u.Env
	said, _ := u.End(cmd)
	return said
}

func uid(u *installed.User) string {
	if u.UID == 0 {
		return "0"
	}
	return "65534"
}

// A container's /run is often read-only, and hardly ever has a directory for
// users. What has is a place for temporary files.
func TestContainer(t *testing.T) {
	const session = ` run --private=require sh -c '
		set -e; echo token > $XDG_RUNTIME_DIR/tokenfs/x; cat $XDG_RUNTIME_DIR/tokenfs/x
		stat -c "%a %u" $XDG_RUNTIME_DIR; echo at $XDG_RUNTIME_DIR
		$TOKENFS status | grep -c "for one process tree"
		unset XDG_RUNTIME_DIR; $TOKENFS wipe' 2>&1; echo status $?; ls -A $TMPDIR`
	eachUser(t, func(u *installed.User) {
		u.Env = append(u.Env, "TOKENFS="+u.Command)
		for _, c := range []struct{ name, setup, at, last string }{
			{"read-only /run with /run/user", "mount -t tmpfs tmpfs /run; mkdir /run/user; mount -o remount,ro /run", "at /run/user/" + uid(u), "wiped everything\nstatus 0\n"},
			{"empty and read-only /run", "mount -t tmpfs -o ro tmpfs /run", "at " + u.Top + "/tmp/tokenfs-run-", "status 5\n"},
		} {
			said := inContainer(u, c.setup, u.Command+session)
			for _, words := range []string{"token\n700 " + uid(u) + "\n" + c.at, "\n1\n"} {
				if !strings.Contains(said, words) {
					u.Errorf("%s: no %q in %s", c.name, words, said)
				}
			}
			if !strings.HasSuffix(said, c.last) {
				u.Errorf("%s: does not end with %q: %s", c.name, c.last, said)
			}
			gone(u)
		}
	})
}

// A cron job has no XDG_RUNTIME_DIR, and finds the user's runtime directory.
func TestCron(t *testing.T) {
	u := newUser(t)
	said := inContainer(u, "mount -t tmpfs tmpfs /run; mkdir -p /run/user/"+uid(u)+"; chmod 700 /run/user/"+uid(u)+"; chown "+uid(u)+" /run/user/"+uid(u),
		"env -i HOME=$HOME PATH=/usr/bin:/bin "+u.Command+" run --private=require sh -c 'echo $XDG_RUNTIME_DIR; echo token > /run/user/$(id -u)/tokenfs/x'; echo status $?; ls -A /run/user/"+uid(u)+"; stat -c %a /run/user/"+uid(u)+"/tokenfs")
	if want := "/run/user/65534\nstatus 0\ntokenfs\n500\n"; said != want {
		t.Errorf("%s, want %s", said, want)
	}
}

// Root as containers have it, without CAP_SYS_ADMIN, mounts in a user namespace
// of its own, and its command gets no capability that it did not have.
func TestContainersRoot(t *testing.T) {
	u := newUser(t)
	u.UID = 0
	without(u, "XDG_RUNTIME_DIR")
	const show = `grep -E "Cap(Inh|Prm|Eff|Bnd|Amb)" /proc/self/status`
	run := func(command string) string {
		cmd := u.Program("setpriv", "--bounding-set", "-sys_admin,-sys_ptrace", "--inh-caps", "-all", "sh", "-c", command)
		said, code := u.End(cmd)
		if code != 0 {
			t.Fatalf("status %d: %s", code, said)
		}
		return said
	}
	plain := run(show)
	ours := run("exec " + u.Command + " run --private=require sh -c 'echo token > $XDG_RUNTIME_DIR/tokenfs/x && " + show + "'")
	if plain != ours {
		t.Errorf("capabilities without tokenfs run:\n%s\nwith it:\n%s", plain, ours)
	}
	gone(u)
}

// Who has nowhere to put a runtime directory is told so.
func TestNowhere(t *testing.T) {
	u := newUser(t)
	without(u, "TMPDIR")
	said := inContainer(u, "for d in /run /dev/shm /var/tmp; do mount -t tmpfs -o ro tmpfs $d; done; mount --bind "+u.Top+" "+u.Top+"; mount -t tmpfs -o ro tmpfs /mnt",
		"TMPDIR=/mnt "+u.Command+" run echo was run; echo status $?")
	if !strings.Contains(said, "mount a tmpfs on /tmp") || !strings.HasSuffix(said, "status 125\n") || strings.Contains(said, "was run") {
		t.Error(said)
	}
	said = inContainer(u, "mount -t tmpfs tmpfs /dev; ln -s /proc/self/fd/1 /dev/stdout; touch /dev/null; chmod 666 /dev/null", u.Command+" run echo was run; echo status $?")
	if !strings.Contains(said, "there is no /dev/fuse") || !strings.HasSuffix(said, "status 125\n") || strings.Contains(said, "was run") {
		t.Error(said)
	}
	gone(u)
}
