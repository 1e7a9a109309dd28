package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

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
		"root-logins = off\n": false, "\ufeffroot-logins = \"on\"  # for CI\n": true, "grace = 1s\nroot-logins\n": false,
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
	a, err := lookUp(t.Context(), "root")
	if err != nil || a.uid != 0 || a.name != "root" || a.home != "/root" {
		t.Errorf("root is %+v, %v", a, err)
	}
	for _, name := range []string{"no-such-user", "", "-i", "--help", "root:x"} {
		if a, err := lookUp(t.Context(), name); err == nil {
			t.Errorf("%q is %+v", name, a)
		}
	}
	if line, err := inFile("/etc/passwd", "roo"); err == nil {
		t.Errorf("roo is %s", line)
	}
}

// getent takes what looks like a number for a uid.
func TestNameOfDigits(t *testing.T) {
	for _, name := range []string{"0", "+0", "-0", " 0", "00"} {
		if out, err := exec.Command("getent", "passwd", "--", name).Output(); err != nil || len(out) == 0 {
			t.Errorf("getent passwd %q: %v: it was to find root", name, err)
		}
		if a, err := lookUp(t.Context(), name); err == nil {
			t.Errorf("%q is %+v", name, a)
		}
	}
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("alice:x:1000:1000::/home/alice:/bin/sh\n1000:x:1001:1001::/home/1000:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if line, err := inFile(path, "1000"); err != nil || line != "1000:x:1001:1001::/home/1000:/bin/sh" {
		t.Errorf("1000 is %s, %v", line, err)
	}
	for name, want := range map[string]bool{"1000": true, "+1": true, "alice": false, "1a": false, "a1": false, "": false, "+": false, "0x10": false} {
		if isNumber(name) != want {
			t.Errorf("%q is a number: %v", name, !want)
		}
	}
}

// fake puts a program of that name first in PATH.
func fake(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// A directory that has to be asked over the network takes its time.
func TestSlowDirectory(t *testing.T) {
	fake(t, "getent", "sleep 1; echo far:x:70000:70000::/home/far:/bin/sh")
	ctx, cancel := context.WithTimeout(t.Context(), nameLimit)
	defer cancel()
	if a, err := lookUp(ctx, "far"); err != nil || a.uid != 70000 {
		t.Errorf("after a second: %+v, %v", a, err)
	}
	fake(t, "getent", "exec sleep 1000")
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if a, err := lookUp(ctx, "far"); err == nil || !strings.Contains(err.Error(), "getent did not answer") {
		t.Errorf("from a directory that does not answer: %+v, %v", a, err)
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
	if again := parseRecord(text); !reflect.DeepEqual(again, r) {
		t.Errorf("%s is read as %+v", text, again)
	}
	r.remove(os.Getpid())
	if len(r.Leaders) != 1 || r.Leaders[0].PID == os.Getpid() {
		t.Errorf("removed: %+v", r)
	}
}
