package faults

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
	"tokenfs/lifecycle"
)

// noticed is how long a keeper may take to notice a new program and try it.
const noticed = time.Minute

// A keeper goes on with a new program by itself, if that program is fit to take
// over, and nothing is lost by one that is not, or by none.
func TestKeeperNoticesANewProgram(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	dir := filepath.Dir(u.Command)
	beside := filepath.Join(dir, "asks") // one that stays
	if err := os.Rename(u.Command, beside); err != nil {
		t.Fatal(err)
	}
	install := func(program string) {
		t.Helper()
		if err := errors.Join(installed.Copy(program, u.Command+".dpkg-new", installed.Packaged), os.Rename(u.Command+".dpkg-new", u.Command)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "unfit"), []byte("crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	status := func() (s lifecycle.Status) {
		said, code := u.End(u.Program(beside, "status", "--json"))
		if code != 0 || json.Unmarshal([]byte(said), &s) != nil {
			t.Fatalf("status: %d: %s", code, said)
		}
		return s
	}

	install(beside)
	u.Must("mount")
	u.Shell("echo secret > " + u.Path("x"))
	before := status()
	if p := before.Program; !p.Watched || p.Replaced || p.Path != u.Command {
		t.Fatalf("at first: %+v", p)
	}

	install("/proc/self/exe")
	u.Eventually("an unfit program is tried", noticed, func() bool { return strings.Contains(status().Program.Detail, "unfit to take over") })
	if err := os.Remove(u.Command); err != nil {
		t.Fatal(err)
	}
	u.Eventually("it is noticed that there is none", noticed, func() bool { return strings.Contains(status().Program.Detail, "may come again") })
	if after := status(); after.Mount.PID != before.Mount.PID || after.Mount.Upgrades != 0 || after.Worker != before.Worker || !after.Program.Replaced {
		t.Errorf("it was %+v %+v, and is %+v %+v %+v", before.Mount, before.Worker, after.Mount, after.Worker, after.Program)
	}

	install(beside)
	u.Eventually("a new program takes over", noticed, func() bool { return status().Mount.Upgrades == 1 })
	if after := status(); after.Mount.PID != before.Mount.PID || !after.Program.Watched || after.Program.Replaced || after.Program.Detail != "" {
		t.Errorf("then: %+v %+v", after.Mount, after.Program)
	}
	if got := u.Shell("cat " + u.Path("x")); got != "secret\n" {
		t.Errorf("the file holds %q", got)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// What its user could replace takes over only when the user asks for it.
func TestKeeperDoesNotFollowAUsersProgram(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Private)
	u.Must("mount")
	if p := u.Status().Program; p.Watched || !strings.Contains(p.Detail, "is not root's") {
		t.Errorf("%+v", p)
	}
	u.Must("unmount")
	u.NothingLeft()
}
