package main

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// What runs as a user can be stopped by that user, say anything for ever, and
// leave something behind that keeps the pipe open. Root does not wait for it.
func TestWithin(t *testing.T) {
	for what, script := range map[string]string{
		"stopped":         "kill -STOP $$",
		"ignores signals": "trap '' TERM HUP INT; while :; do sleep 1; done",
		"says too much":   "exec cat /dev/zero",
	} {
		began := time.Now()
		said, err := within(300*time.Millisecond, exec.Command("sh", "-c", script))
		if took := time.Since(began); err == nil || took > 5*time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
		if len(said) > mostSaid {
			t.Errorf("%s: %d bytes were kept", what, len(said))
		}
	}
	began := time.Now()
	said, err := within(20*time.Second, exec.Command("sh", "-c", "echo said; sleep 30 &"))
	if took := time.Since(began); said != "said\n" || took > 10*time.Second {
		t.Errorf("what left something behind said %q (%v) after %v", said, err, took)
	}
	if said, err := within(20*time.Second, exec.Command("sh", "-c", "echo no >&2; exit 3")); said != "no\n" || err == nil {
		t.Errorf("what fails said %q, %v", said, err)
	}
}

// A remover has an end, also where its user never lets it come to one.
func TestKeepTrying(t *testing.T) {
	tries := 0
	if err := keepTrying(time.Minute, func() (bool, error) { tries++; return true, errStays }); tries != 1 || !errors.Is(err, errStays) {
		t.Errorf("done, after %d tries: %v", tries, err)
	}
	tries = 0
	began := time.Now()
	err := keepTrying(2*pause, func() (bool, error) { tries++; return false, errors.New("still mounted") })
	if took := time.Since(began); err == nil || tries > 3 || took > 10*time.Second {
		t.Errorf("never done: %v after %d tries and %v", err, tries, took)
	}
}

// Nothing of root's is left to what runs as the user: no terminal, no descriptor
// but the ends of pipes, no group, no variable.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to run something as somebody else")
	}
	t.Setenv("SECRET", "root's")
	inheritNothing() // of what this test was started with
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	a := account{"nobody", 65534, 65533, "/", "/bin/sh"}
	said, err := within(10*time.Second, a.as([]uint32{65532}, "/bin/sh", "-c", `
		id -u; id -G; for fd in 0 1 2; do readlink /proc/$$/fd/$fd | sed 's/:.*//'; done
		test "$(cut -d' ' -f6 /proc/$$/stat)" = $$ && echo leader; sh -c ': </dev/tty' 2>/dev/null || echo no terminal; env | grep -c SECRET`))
	if want := "65534\n65533 65532\n/dev/null\npipe\npipe\nleader\nno terminal\n0\n"; said != want {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := within(10*time.Second, a.as(nil, "/bin/ls", "/proc/self/fd")); said != "0\n1\n2\n3\n" { // 3 is ls's own
		t.Errorf("descriptors: %v: %s", err, said)
	}
}
