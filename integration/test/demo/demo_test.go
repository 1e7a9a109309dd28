package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokenfs/integration/test/needs"
)

const nobody = 65534

// make demo ends well in a clean copy of the repository, as root and as an
// ordinary user, with a runtime directory and without, and leaves nothing.
func TestDemo(t *testing.T) {
	needs.UsersFUSE(t)
	needs.Program(t, "make", "make")
	users := []int{os.Getuid()}
	if os.Getuid() == 0 {
		users = append(users, nobody)
	}
	for _, uid := range users {
		t.Run(fmt.Sprintf("uid=%d", uid), func(t *testing.T) {
			p := newUser(t, uid)
			// What is timed is the demo, not the compiler.
			for _, target := range []string{"build", "bin/demo"} {
				if out, err := p.make(t.Context(), target); err != nil {
					t.Fatalf("make %s: %v\n%s", target, err, out)
				}
			}
			for _, runtime := range []string{"own", "another's", "none"} {
				t.Run("XDG_RUNTIME_DIR="+runtime, func(t *testing.T) { demonstrate(t, p, runtime) })
			}
		})
	}
}

// newUser makes a home directory with a clean copy of the repository in it, and
// of the modules it needs.
func newUser(t *testing.T, uid int) user {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo-test.") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+w", dir).Run(); os.RemoveAll(dir) })
	top := strings.TrimSpace(output(t, "git", "rev-parse", "--show-toplevel"))
	copyFiles := `cd "$1" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$2/repo"`
	modules := strings.TrimSpace(output(t, "go", "env", "GOMODCACHE"))
	output(t, "mkdir", dir+"/repo")
	output(t, "sh", "-c", copyFiles, "sh", top, dir)
	output(t, "cp", "-r", filepath.Join(modules, "cache/download"), dir+"/proxy")
	p := user{uid, dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GOPROXY=file://" + dir + "/proxy", "GOSUMDB=off"}}
	cache := strings.TrimSpace(output(t, "go", "env", "GOCACHE"))
	if uid == os.Getuid() {
		p.env = append(p.env, "GOCACHE="+cache)
		return p
	}
	output(t, "chown", "-R", fmt.Sprint(uid), dir)
	// What is compiled already need not be once more: the user has links to it.
	theirs := dir + "/cache"
	if out, err := exec.Command("cp", "-al", cache, theirs).CombinedOutput(); err != nil {
		t.Logf("everything is compiled anew: %v: %.200s", err, out)
		os.RemoveAll(theirs)
	} else {
		output(t, "find", theirs, "-type", "d", "-exec", "chown", fmt.Sprint(uid), "{}", "+")
		p.env = append(p.env, "GOCACHE="+theirs)
	}
	return p
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// A user runs the demo, root or an ordinary one.
type user struct {
	uid  int
	home string
	env  []string
}

func (p user) make(ctx context.Context, target string, env ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "make", target)
	cmd.Dir = filepath.Join(p.home, "repo")
	cmd.Env = append(p.env, env...)
	if p.uid != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.uid)}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// demonstrate runs it with a runtime directory that is p's own, another user's, as
// su leaves it in the environment, or none.
func demonstrate(t *testing.T, p user, runtime string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// A mistake in the environment, or a mountpoint in use, would end the demo
	// if it looked.
	env := []string{"TOKENFS_SIZE=nonsense", "TOKENFS_MOUNTPOINT=/"}
	where := "/tmp"
	if dir := fmt.Sprintf("/run/user/%d", p.uid); isDir(dir) {
		where = dir
	}
	if runtime != "none" {
		dir, owner := filepath.Join(p.home, runtime), p.uid
		if runtime == "own" {
			where = dir
		} else {
			owner++
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, owner, -1); err != nil {
			t.Fatal(err)
		}
		env = append(env, "XDG_RUNTIME_DIR="+dir)
	}
	start := time.Now()
	text, err := p.make(ctx, "demo", env...)
	t.Logf("make demo took %v:\n%s", time.Since(start).Round(time.Millisecond), text)
	if err != nil {
		t.Fatalf("make demo: %v", err)
	}

	for _, want := range expected(p.uid, runtime, where) {
		if !strings.Contains(text, want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(where, "tokenfs-demo.*")); len(left) > 0 {
		t.Errorf("the demo has left %v", left)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), "tokenfs-demo.") {
		t.Errorf("the demo has left a mount (%v):\n%s", err, mounts)
	}
	filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "cache.json") {
			t.Errorf("the demo has left %s", path)
		}
		return nil
	})
}

func expected(uid int, runtime, where string) []string {
	want := []string{
		"export XDG_RUNTIME_DIR=" + filepath.Join(where, "tokenfs-demo."),
		"the app, process ", ": FOUND in ",
		"the cache on tokenfs        0 pages",
		"(nobody is signed in)",
		"nothing was left behind",
	}
	if where == "/tmp" {
		want = append(want, "There is no XDG_RUNTIME_DIR")
	}
	if runtime == "another's" {
		want = append(want, "is another user's")
	}
	if uid == 0 {
		return append(want, "read: not found", "the memory file arena")
	}
	return append(want, "REFUSED: open /proc/", "permission denied", "A refusal is not an answer")
}
