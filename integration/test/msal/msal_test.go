package msal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tokenfs/integration/test/mounted"
)

// start starts an app that ends with the test.
func start(t *testing.T, cache string) *App {
	t.Helper()
	a, err := Start(cache)
	if err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { a.cmd.Process.Kill() })
	t.Cleanup(func() { a.Quit(); stuck.Stop() })
	return a
}

func do(t *testing.T, a *App, command string) []string {
	t.Helper()
	lines, err := a.Do(command)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Two apps that run at once share one cache: each saves, and each sees what the
// other saved without being started again, by the file's time of change.
func TestTwoAppsShareACache(t *testing.T) {
	m := mounted.New(t, mounted.Build(t))
	cache := filepath.Join(m.Dir, "app", "cache.json")
	apps := []*App{start(t, cache), start(t, cache)}
	users := []string{"alice", "bob"}
	var wg sync.WaitGroup
	for i, a := range apps {
		wg.Go(func() {
			if out, err := a.Do("login " + users[i]); err != nil || !slices.Equal(out, []string{"signed in: " + users[i]}) {
				t.Errorf("login of %s: %q, %v", users[i], out, err)
			}
		})
	}
	wg.Wait()

	first := do(t, apps[0], "show")
	if len(first) != 2 || !strings.HasPrefix(first[0], "alice ") || !strings.HasPrefix(first[1], "bob ") || strings.Contains(strings.Join(first, ""), "no token") {
		t.Fatalf("the first app sees %q", first)
	}
	if second := do(t, apps[1], "show"); !slices.Equal(first, second) {
		t.Errorf("the first app sees %q, the second %q", first, second)
	}

	// A later login replaces a token, and the other app notices.
	do(t, apps[1], "login alice")
	again := do(t, apps[0], "show")
	if len(again) != 2 || again[0] == first[0] || again[1] != first[1] {
		t.Errorf("after alice signed in again elsewhere, the app sees %q; before %q", again, first)
	}
	if fresh := do(t, start(t, cache), "show"); !slices.Equal(fresh, again) {
		t.Errorf("an app started now sees %q, the others %q", fresh, again)
	}

	st, err := os.Stat(cache)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 || time.Since(st.ModTime()).Abs() > time.Minute {
		t.Errorf("the cache has mode %v and time %v", st.Mode(), st.ModTime())
	}
	if _, err := os.Lstat(cache + ".lockfile"); !os.IsNotExist(err) {
		t.Errorf("the lock file is left behind: %v", err)
	}
}

// After a wipe an app that starts sees an empty cache, and can fill it again.
func TestWipe(t *testing.T) {
	m := mounted.New(t, mounted.Build(t))
	cache := filepath.Join(m.Dir, "app", "cache.json")
	running := start(t, cache)
	do(t, running, "login alice")
	m.Run(t, "wipe")
	if _, err := os.Lstat(filepath.Dir(cache)); !os.IsNotExist(err) {
		t.Errorf("after a wipe the app's directory is there: %v", err)
	}
	fresh := start(t, cache)
	if out := do(t, fresh, "show"); len(out) > 0 {
		t.Errorf("after a wipe an app sees %q", out)
	}
	do(t, fresh, "login bob")
	if out := do(t, start(t, cache), "show"); len(out) != 1 || !strings.HasPrefix(out[0], "bob ") {
		t.Errorf("after a login that followed a wipe an app sees %q", out)
	}
}

// Eight processes add ten tokens each to one cache at once, and none is lost.
//
// MSAL waits 5 s for its lock and then goes on as if it had it. What is lost or
// spoilt after it said so is its own doing; such a round is done again.
func TestNoUpdateIsLost(t *testing.T) {
	m := mounted.New(t, mounted.Build(t))
	for round := range 5 {
		cache := filepath.Join(m.Dir, fmt.Sprint(round), "cache.json")
		gaveUp, err := addAtOnce(t, cache)
		n := 0
		if err == nil {
			n, err = countTokens(cache)
		}
		switch {
		case err == nil && n == processes*each:
			return
		case gaveUp == 0:
			t.Fatalf("of %d tokens %d are in the cache, and no process had given up on the lock: %v", processes*each, n, err)
		default:
			t.Logf("round %d: %d of %d tokens, %v; MSAL itself gave up on its lock %d times", round, n, processes*each, err, gaveUp)
		}
	}
	t.Fatal("in each of 5 rounds MSAL gave up on its lock after 5 s: the machine is too slow to tell")
}

func countTokens(cache string) (int, error) {
	b, err := os.ReadFile(cache)
	if err != nil {
		return 0, err
	}
	var content struct{ AccessToken map[string]any }
	err = json.Unmarshal(b, &content)
	return len(content.AccessToken), err
}

const processes, each = 8, 10

// addAtOnce says how often a process gave up on the lock, and whether one failed.
func addAtOnce(t *testing.T, cache string) (gaveUp int, err error) {
	t.Helper()
	var ins []io.WriteCloser
	var outs []*bufio.Scanner
	for i := range processes {
		cmd := exec.Command(Python, "update.py", cache, fmt.Sprint("process", i), fmt.Sprint(each))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
		t.Cleanup(func() { in.Close(); cmd.Wait(); stuck.Stop() })
		ins, outs = append(ins, in), append(outs, bufio.NewScanner(out))
	}
	for _, out := range outs {
		if !out.Scan() || out.Text() != "ready" {
			t.Fatalf("update.py did not get ready: %q", out.Text())
		}
	}
	for _, in := range ins {
		io.WriteString(in, "go\n")
	}
	for i, out := range outs {
		last := ""
		for out.Scan() {
			if last = out.Text(); strings.Contains(last, "failed to create lock file") {
				gaveUp++
			}
		}
		if last != "finished" {
			err = errors.Join(err, fmt.Errorf("process %d of %d failed", i, processes))
		}
	}
	return gaveUp, err
}
