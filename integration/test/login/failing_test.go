package login

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
)

// override changes the unit for this user only.
func (u user) override(lines string) {
	u.Helper()
	u.must(u.as("install -d -o " + u.name + " ~" + u.name + "/.config/systemd/user/tokenfs.service.d && printf '" +
		strings.ReplaceAll(lines, "\n", `\n`) + "\n' >~" + u.name + "/.config/systemd/user/tokenfs.service.d/test.conf"))
}

// elsewhere has the user's filesystem mounted at another place than the usual one.
func (u user) elsewhere() (place string) {
	u.Helper()
	place = "/run/user/" + u.uid + "/elsewhere"
	u.must(u.as("install -d -o " + u.name + " ~" + u.name + "/.config/tokenfs && echo 'mountpoint = " + place + "' >~" + u.name + "/.config/tokenfs/config"))
	return place
}

// A start that hangs delays the login, a little.
func TestHangingStart(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.override("[Service]\nExecStart=\nExecStart=sh -c \"trap : TERM; while :; do sleep 1; done\"")
	said := strings.Fields(u.login(`
		systemctl --user show --property UserspaceTimestampMonotonic --value
		systemctl --user show basic.target --property ActiveEnterTimestampMonotonic --value
		tokenfs status 2>&1 | grep -o "took too long"`))
	if len(said) != 5 {
		t.Fatalf("the session said %q", said)
	}
	start, _ := strconv.Atoi(said[0])
	ready, _ := strconv.Atoi(said[1])
	delay := time.Duration(ready-start) * time.Microsecond
	if delay > 2*time.Second+time.Second { // the second is for a machine that is busy
		t.Errorf("the user manager took %v until a login could go on", delay)
	}
	u.seen("with a start that hangs and ignores SIGTERM the user manager was ready after %v, and status says why nothing is mounted", delay.Round(10*time.Millisecond))
	u.gone()
}

const helperName = "fusermount3"

// helperMain is this program in the place of fusermount3: slow for one user.
func helperMain() {
	if _, err := os.Stat(fmt.Sprintf("/etc/slow-%d", os.Getuid())); err == nil && !slices.Contains(os.Args, "-u") {
		time.Sleep(4 * time.Second)
	}
	panic(syscall.Exec("/usr/bin/fusermount3.real", os.Args, os.Environ()))
}

// slowHelper has the user's mounts take long. The tests beside this one get by with
// the same helper.
func (u user) slowHelper() {
	u.Helper()
	bin := fmt.Sprintf("/proc/%d/root/usr/bin/", u.pid)
	if err := installed.Copy("/proc/self/exe", bin+"slow", 0o755); err != nil {
		u.Fatal(err)
	}
	u.must(u.as("touch /etc/slow-" + u.uid + " && cd /usr/bin && chmod 4755 slow && ln fusermount3 fusermount3.real && mv slow fusermount3"))
	u.Cleanup(func() { u.must(u.as("cd /usr/bin && mv fusermount3.real fusermount3")) })
}

// A machine that is slow has its mount late, and its logins in time.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.slowHelper()
	s := u.open()
	if said := s.do("systemctl --user show --property ActiveState,StatusText --value tokenfs"); !strings.Contains(said, "still mounting") {
		t.Errorf("at the first command: %q, mounted %v", said, u.mounted())
	}
	took := u.eventually("it is mounted", func() bool { return s.do("tokenfs status >/dev/null 2>&1 && echo ok") == "ok" })
	if said := s.do("systemctl --user show --property ActiveState,NRestarts,StatusText --value tokenfs | xargs"); said != "0 active" {
		t.Errorf("then: %q", said)
	}
	u.seen("where mounting takes 4 s, the login did not wait for it, and the mount came %v after it", took)
	s.end()
	u.gone()
}

// A login works without /dev/fuse, and whoever logs in is told what is wrong.
// Not parallel: there is one such device.
func TestNoDevice(t *testing.T) {
	u := newUser(t)
	// Lazily: an earlier test's keeper may still be about to end, and have it open.
	u.must(u.as("umount -l /dev/fuse && rm /dev/fuse"))
	defer func() { u.must(u.as("mknod -m 666 /dev/fuse c 10 229")) }()
	said := u.login("tokenfs status; echo plain >$XDG_RUNTIME_DIR/tokenfs/token; echo logged in")
	for _, want := range []string{"there is no /dev/fuse", "Permission denied", "logged in"} {
		if !strings.Contains(said, want) {
			t.Errorf("a session said %q and not %q", said, want)
		}
	}
	greeting := func(u user) string {
		shell := u.ssh(u.name, "", "-tt")
		shell.Stdin = strings.NewReader("exit\n")
		said := u.must(run(shell))
		if !strings.Contains(said, "tokenfs: nothing is mounted") || !strings.Contains(said, "there is no /dev/fuse") {
			t.Errorf("a login shell said %q", said)
		}
		return said[max(0, strings.Index(said, "tokenfs: ")):]
	}
	u.seen("without /dev/fuse logins worked, and a login shell said: %s", greeting(u))
	u.gone()
	u = newUser(t)
	if place := u.elsewhere(); !strings.Contains(greeting(u), place) {
		t.Errorf("a login shell did not name %s", place)
	}
	u.gone()
}
