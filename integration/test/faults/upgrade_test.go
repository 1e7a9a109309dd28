package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
	"tokenfs/lifecycle"
)

// unfitMain is this program as a new version of tokenfs that seems fit to take
// over until it does. A file beside it says what happens then.
func unfitMain() {
	if os.Getenv("_TOKENFS_UPGRADE") == "" {
		json.NewEncoder(os.Stdout).Encode(map[string]any{"version": "unfit", "formats": lifecycle.ReadableFormats()})
		os.Exit(0)
	}
	exe, _ := os.Readlink("/proc/self/exe")
	how, _ := os.ReadFile(filepath.Join(filepath.Dir(exe), "unfit"))
	switch string(how) {
	case "crash":
		panic("unfit to take over")
	case "end":
		os.Exit(0)
	case "hang":
		time.Sleep(time.Hour)
	}
	os.Exit(9)
}

// isUnfit says whether this is to be that program.
func isUnfit() bool {
	return os.Getenv("_TOKENFS_UPGRADE") != "" || len(os.Args) == 3 && os.Args[1] == "version"
}

// A new version that does not live to take over never gets what it would lose.
func TestUpgradeToAnUnfitVersion(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	u.Shell("echo secret > " + u.Path("x"))
	before := u.Status()
	replace := func(by string) {
		t.Helper()
		if err := installed.Copy(by, u.Command+".new", installed.Packaged); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(u.Command+".new", u.Command); err != nil {
			t.Fatal(err)
		}
	}
	// The very file that runs: another one the keeper would go on with by itself.
	tokenfs := filepath.Join(filepath.Dir(u.Command), "tokenfs-as-it-was")
	if err := os.Link(u.Command, tokenfs); err != nil {
		t.Fatal(err)
	}
	for how, word := range map[string]string{"crash": "unfit to take over", "end": "", "hang": ""} {
		replace("/proc/self/exe")
		if err := os.WriteFile(filepath.Join(filepath.Dir(u.Command), "unfit"), []byte(how), 0o644); err != nil {
			t.Fatal(err)
		}
		timed(t, how, func() {
			said, code := u.End(u.Program(tokenfs, "upgrade"))
			if code == 0 || !strings.Contains(said, "rehearsal") || !strings.Contains(said, "the old version goes on") || !strings.Contains(said, word) {
				t.Errorf("%s: upgrade ended with %d and said %q", how, code, said)
			}
		})
		if got := u.Shell("cat " + u.Path("x")); got != "secret\n" {
			t.Fatalf("%s: the file holds %q", how, got)
		}
		if err := errors.Join(os.Remove(u.Command), os.Link(tokenfs, u.Command)); err != nil {
			t.Fatal(err)
		}
		if after := u.Status(); after.Mount.PID != before.Mount.PID || after.Mount.Upgrades != 0 || after.Worker != before.Worker {
			t.Errorf("%s: it was %+v %+v, and is %+v %+v", how, before.Mount, before.Worker, after.Mount, after.Worker)
		}
	}
	u.Must("upgrade")
	if s := u.Status(); s.Mount.Upgrades != 1 || s.Mount.PID != before.Mount.PID {
		t.Errorf("after an upgrade to itself: %+v", s.Mount)
	}
	if got := u.Shell(fmt.Sprintf("cat %s", u.Path("x"))); got != "secret\n" {
		t.Errorf("after an upgrade the file holds %q", got)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// Who asks in the moment of an upgrade is answered, by the old program or the new.
func TestQueriesWhileItIsUpgraded(t *testing.T) {
	t.Parallel()
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	over := make(chan struct{})
	var clients sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if said, code := u.Run("status", "--json"); code != 0 {
					t.Errorf("status: %d: %s", code, said)
				}
				asked.Add(1)
			}
		})
	}
	for range 20 {
		u.Must("upgrade")
	}
	close(over)
	clients.Wait()
	t.Logf("%d queries meanwhile", asked.Load())
	u.Must("unmount")
	u.NothingLeft()
}
