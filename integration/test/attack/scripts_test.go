package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// scriptLimit is for one script of a package, whatever users do.
const scriptLimit = 10 * time.Second

// scene is where the scripts run: /run and /usr/bin are not this machine's. The
// systemctl there waits, as a real one does for a user manager that does not answer.
const scene = `
set -e
top=$1 uid=$2 terminal=$3 command=$4
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/systemd/system /run/user/$uid /run/bin /run/work
chown $uid:$uid /run/user/$uid; chmod 0700 /run/user/$uid
cp "$command" /run/bin/tokenfs
chmod 0711 /run/bin/tokenfs
printf '#!/bin/sh\n[ "$(id -u)" = 0 ] || sleep 3\n' >/run/bin/systemctl
chmod 0755 /run/bin/systemctl
mount -t overlay -o lowerdir=/usr/bin,upperdir=/run/bin,workdir=/run/work none /usr/bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
setsid setpriv --reuid $uid --regid $uid --clear-groups -- "$top/hostile" /run/user/$uid "$terminal" 2 </dev/null >"$top/found" 2>&1 &
hostile=$!
trap 'kill -9 $hostile' EXIT
until grep -qs -e ready -e trouble "$top/found"; do sleep 0.05; done
while read -r script args; do
	: >/run/tokenfs.preset
	before=$(date +%s%N)
	sh "$top/$script" $args </dev/null || echo "FAILED $script $args"
	echo "TOOK $(($(date +%s%N) - before)) $script $args"
done <"$top/scripts"
echo OVER
`

// Whatever a user does, root's package manager does not wait for it, and nothing
// runs as the user on root's terminal.
func TestPackageScripts(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	if err := installed.Copy("/proc/self/exe", filepath.Join(u.Top, hostileName), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, parts ...string) {
		t.Helper()
		var all []byte
		for _, part := range parts {
			text, err := os.ReadFile("../../../packaging/" + part)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
		if err := os.WriteFile(filepath.Join(u.Top, name), all, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var scripts []string
	for path, arguments := range map[string][]string{
		"deb/preinst": {"install", "upgrade 1.0"}, "deb/postinst": {"configure", "configure 1.0"},
		"deb/prerm": {"upgrade 2.0", "remove"}, "deb/postrm": {"remove"},
		"rpm/post": {"1", "2"}, "rpm/preun": {"0", "1"}, "rpm/postun": {"0", "1"},
	} {
		name := strings.ReplaceAll(path, "/", "-")
		write(name, "scripts.sh", path)
		for _, a := range arguments {
			scripts = append(scripts, name+" "+a)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(u.Top, "scripts"), []byte(strings.Join(scripts, "\n")+"\n"), 0o644),
		os.WriteFile(filepath.Join(u.Top, "scene"), []byte(scene), 0o644)); err != nil {
		t.Fatal(err)
	}
	said := onPTY(t, func(terminal string) *exec.Cmd {
		return exec.Command("unshare", "--mount", "--propagation", "private", "sh", u.Top+"/scene", u.Top, fmt.Sprint(u.UID), terminal, u.Command)
	})
	found, err := os.ReadFile(filepath.Join(u.Top, "found"))
	if err != nil || !strings.Contains(string(found), "ready") || !strings.Contains(said, "OVER") {
		t.Fatalf("the scene was not set up: %v: %s%s", err, found, said)
	}
	if n := strings.Count(string(found), "found "); n > 0 {
		t.Errorf("a process of the user's was on root's terminal (looked %d times): %.300s", n, found)
	}
	ran := 0
	for line := range strings.Lines(said) {
		var took time.Duration
		if n, _ := fmt.Sscanf(line, "TOOK %d", &took); n == 1 {
			if ran++; took > scriptLimit {
				t.Errorf("%s waited for a user: %v", strings.Fields(line)[2:], took)
			}
		}
		if strings.Contains(line, "FAILED") {
			t.Error(line)
		}
	}
	if ran != len(scripts) {
		t.Errorf("%d of %d scripts ran: %s", ran, len(scripts), said)
	}
	t.Logf("%d runs of scripts", ran)
}

// onPTY runs a command with a terminal as its own, and returns what it said there.
func onPTY(t *testing.T, command func(terminal string) *exec.Cmd) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatalf("terminal: %v", err)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte, 1)
	go func() {
		var all bytes.Buffer
		all.ReadFrom(master) // ends with EIO when nobody has it open any more
		read <- all.Bytes()
	}()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%q: %v", cmd.Args, err)
	}
	return strings.ReplaceAll(string(<-read), "\r\n", "\n")
}
