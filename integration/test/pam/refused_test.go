package pam

import (
	"strings"
	"testing"
	"time"
)

// Changing user and running jobs is no login; system users get nothing, and root
// only if root says so.
func TestWhoGetsNone(t *testing.T) {
	h := newHost(t)
	const made = "ls /run/user; mkdir -p /run/tokenfs; ls /run/tokenfs"
	before := h.root(made) // of who logged in earlier
	h.root("su - bob -c true; su bob -c true; sudo -u bob true; runuser -l bob -c true")
	h.login("service", "true")
	h.login("root", "true")
	if said := h.root(made); said != before {
		t.Errorf("made or on record: %s, before: %s", said, before)
	}
	h.root("echo 'root-logins = on' >> /etc/tokenfs/config")
	defer h.root("sed -i /root-logins/d /etc/tokenfs/config; rm -f /run/tokenfs/0")
	h.login("root", "echo token > /run/user/0/tokenfs/x")
	h.rest()
}

// Where nothing can be mounted, the login works and its user is told.
func TestNoDevice(t *testing.T) {
	h := newHost(t)
	h.root("mv /dev/fuse /dev/gone")
	defer h.root("mv /dev/gone /dev/fuse")
	// What PAM says is shown where a shell is asked for, and not a command.
	shell := h.ssh("alice", "", "-tt")
	shell.Stdin = strings.NewReader("echo $((6*7)); exit\n")
	said, err := run(shell)
	if err != nil || !strings.Contains(said, "not mounted: there is no /dev/fuse") || !strings.Contains(said, "42") {
		t.Errorf("in a shell: %v: %s", err, said)
	}
	if said := h.login("alice", "echo in; tokenfs status || :"); !strings.Contains(said, "in\n") || !strings.Contains(said, "there is no /dev/fuse") {
		t.Errorf("in a command: %s", said)
	}
}

// A directory that is not the user's is left alone, and so is what links in the
// user's own lead to.
func TestTraps(t *testing.T) {
	h := newHost(t)
	uid := h.uid("alice")
	h.root("mkdir -p /run/user/" + uid)
	if said := h.login("alice", "echo in; ls -A /run/user/"+uid, "-tt"); !strings.HasPrefix(said, "tokenfs: /run/user/"+uid+" is of uid 0") && !strings.Contains(said, "in") {
		t.Errorf("with a directory of root's: %s", said)
	}
	if said := h.root("stat -c '%U %a' /run/user/" + uid + "; rmdir /run/user/" + uid); said != "root 755" {
		t.Errorf("root's directory is now %s", said)
	}
	h.root("mkdir /srv/trap; touch /srv/trap/file; ln -s /srv/trap /run/user/" + uid)
	h.login("alice", "true")
	h.root("test -L /run/user/" + uid + " && rm /run/user/" + uid)

	h.root("chown -R alice /srv/trap")
	h.login("alice", "cd /run/user/"+uid+"; ln -s /srv/trap link; mkdir deep; ln -s /srv deep/srv; touch deep/x")
	h.rest()
	h.root("test -e /srv/trap/file")
}

// A tokenfs that hangs delays a login, and no more.
func TestHang(t *testing.T) {
	h := newHost(t)
	h.root("mv /usr/bin/tokenfs /usr/bin/moved; printf '#!/bin/sh\\nsleep 1000\\n' > /usr/bin/tokenfs; chmod 755 /usr/bin/tokenfs")
	began := time.Now()
	said := h.login("alice", "echo in")
	took := time.Since(began)
	h.root("mv /usr/bin/moved /usr/bin/tokenfs; pkill -x sleep")
	if !strings.HasSuffix(said, "in") {
		t.Error(said)
	}
	t.Logf("a login with a tokenfs that hangs took %v", took.Round(10*time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("a login took %v", took)
	}
}
