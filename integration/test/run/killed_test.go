package run

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// However tokenfs run ends, keeper and worker end with it, and the command has
// no filesystem any more.
func TestKilledRun(t *testing.T) {
	for name, private := range map[string]string{"private": "require", "ordinary": "off"} {
		t.Run(name, func(t *testing.T) {
			eachUser(t, func(u *installed.User) {
				r := start(u, "--private="+private, "sh", "-c",
					`cd $XDG_RUNTIME_DIR/tokenfs; echo token > x; exec 3<x; echo holding; while cat <&3 && cat x >/dev/null; do sleep 0.02; done 2>/dev/null; echo lost`)
				if said := r.line(); said != "holding" {
					u.Fatal(said)
				}
				kill(u, r.pid, unix.SIGKILL)
				for r.line() != "lost" {
				}
				r.wait()
				gone(u)
			})
		})
	}
}

// A keeper that is killed takes everything along, and tokenfs run says so.
func TestKilledKeeper(t *testing.T) {
	u := newUser(t)
	said := outcome(u, "--private=require", "sh", "-c", `
		echo token > $XDG_RUNTIME_DIR/tokenfs/x
		kill -9 $(`+u.Command+` status --json | sed -n '/"mount"/,/}/s/.*"pid": \([0-9]*\).*/\1/p')
		while cat $XDG_RUNTIME_DIR/tokenfs/x >/dev/null; do sleep 0.02; done 2>/dev/null
		cat $XDG_RUNTIME_DIR/tokenfs/x
		`+u.Command+` status; `+u.Command+` unmount; exit 0`)
	for _, words := range []string{"not connected", "nobody answers", "the daemon ended before", "status 125"} {
		if !strings.Contains(said, words) {
			t.Errorf("no %q in %s", words, said)
		}
	}
}

// A worker that is killed is replaced, as under any keeper.
func TestKilledWorker(t *testing.T) {
	u := newUser(t)
	said := outcome(u, "--private=require", "sh", "-c", `
		echo token > $XDG_RUNTIME_DIR/tokenfs/x
		kill -9 $(`+u.Command+` status --json | sed -n '/"worker"/,/}/s/.*"pid": \([0-9]*\).*/\1/p')
		cat $XDG_RUNTIME_DIR/tokenfs/x`)
	if !strings.HasSuffix(said, "token\nstatus 0") {
		t.Error(said)
	}
	gone(u)
}
