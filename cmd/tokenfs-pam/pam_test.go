package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		account
		want bool
	}{
		{account{"alice", 1000, 1000, "/home/alice", "/bin/bash"}, true},
		{account{"alice", 1000, 1000, "/home/alice", ""}, true}, // passwd(5): /bin/sh
		{account{"alice", 1000, 1000, "/home/alice", "/usr/sbin/nologin"}, false},
		{account{"alice", 1000, 1000, "/home/alice", "/bin/false"}, false},
		{account{"gdm", 120, 120, "/var/lib/gdm3", "/bin/bash"}, false},
		{account{"nobody", 65534, 65534, "/", "/bin/sh"}, false},
	} {
		if got := c.wanted(); got != c.want {
			t.Errorf("%+v: wanted %v", c.account, got)
		}
	}
}

func TestRootLogins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if rootLogins(path) {
		t.Error("without a file")
	}
	for text, want := range map[string]bool{
		"": false, "# root-logins = on\n": false, "size = 1M\nroot-logins = on\n": true, "root-logins=on": true,
		"root-logins = off\n": false, "grace = 1s\nroot-logins\n": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := rootLogins(path); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestLookUp(t *testing.T) {
	a, err := lookUp("root")
	if err != nil || a.uid != 0 || a.name != "root" || a.home != "/root" {
		t.Errorf("root is %+v, %v", a, err)
	}
	if a, err := lookUp("no-such-user"); err == nil {
		t.Errorf("nobody is %+v", a)
	}
	if line, err := inFile("/etc/passwd", "roo"); err == nil {
		t.Errorf("roo is %s", line)
	}
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "record")
	f, err := lockRecord(dir, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockRecord(dir, 1000); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("locked twice: %v", err)
	}
	other, err := lockRecord(dir, 1001)
	if err != nil {
		t.Errorf("another user's record: %v", err)
	} else {
		other.Close()
	}
	f.Close()
	if f, err = lockRecord(dir, 1000); err != nil {
		t.Fatal(err)
	}
	f.Close()

	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if f, err := lockRecord(dir, 1000); err == nil {
		t.Errorf("a record in a directory that others may change: %v", f.Close())
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(dir+"/1000"), os.Symlink(dir+"/1001", dir+"/1000")); err != nil {
		t.Fatal(err)
	}
	if f, err := lockRecord(dir, 1000); err == nil {
		t.Errorf("a record through a link: %v", f.Close())
	}
}

func TestLeaders(t *testing.T) {
	sleeper := exec.Command("cat")
	in, err := sleeper.StdinPipe()
	if err == nil {
		err = sleeper.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if err := errors.Join(r.add(os.Getpid()), r.add(sleeper.Process.Pid), r.add(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	if len(r.Leaders) != 2 || !r.Leaders[0].alive() || !r.Leaders[1].alive() {
		t.Errorf("two processes, one twice: %+v", r)
	}
	stale := r.Leaders[0]
	stale.Start += "0"
	if stale.alive() {
		t.Error("another process with the same pid counts")
	}
	// A zombie is no session, although it has its pid still.
	in.Close()
	for dead := r.Leaders[0]; ; {
		if dead = r.Leaders[0]; dead.PID == os.Getpid() {
			dead = r.Leaders[1]
		}
		if !dead.alive() {
			break
		}
	}
	sleeper.Wait()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again record
	if err := json.Unmarshal(text, &again); err != nil || len(again.Leaders) != 2 || again.Leaders[0] != r.Leaders[0] {
		t.Errorf("%s is read as %+v, %v", text, again, err)
	}
	r.remove(os.Getpid())
	if len(r.Leaders) != 1 || r.Leaders[0].PID == os.Getpid() {
		t.Errorf("removed: %+v", r)
	}
}
