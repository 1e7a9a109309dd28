package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tokenfs/integration/test/installed"
)

var (
	building sync.Mutex
	built    string
)

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case filteredName:
		filteredMain()
	case terminalName:
		terminalMain()
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// command builds the command once for all tests.
func command(t *testing.T) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	if built != "" {
		return built
	}
	dir, err := os.MkdirTemp("", "tokenfs-run-test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tokenfs")
	if err := errors.Join(os.Chmod(dir, 0o755), installed.Copy(installed.Build(t), path, 0o755)); err != nil {
		t.Fatal(err)
	}
	built = path
	return built
}

// eachUser runs a test as an ordinary user and as root, each with a directory
// of its own and the command installed as a package does.
func eachUser(t *testing.T, test func(u *installed.User)) {
	t.Run("user", func(t *testing.T) { test(newUser(t)) })
	t.Run("root", func(t *testing.T) {
		u := newUser(t)
		u.UID = 0
		if err := os.Chown(u.Top+"/run", 0, 0); err != nil {
			t.Fatal(err)
		}
		test(u)
	})
}

// newUser stands for one who has logged in: with a runtime directory. What
// tokenfs run makes besides goes to a directory of the test's.
func newUser(t *testing.T) *installed.User {
	t.Helper()
	u := installed.New(t, command(t), installed.Packaged)
	tmp := u.Top + "/tmp"
	if err := errors.Join(os.Mkdir(tmp, 0o777), os.Chmod(tmp, os.ModeSticky|0o777)); err != nil {
		t.Fatal(err)
	}
	u.Env = append(u.Env, "TMPDIR="+tmp)
	return u
}

// without is the user's environment without one variable.
func without(u *installed.User, name string) {
	var keep []string
	for _, v := range u.Env {
		if !strings.HasPrefix(v, name+"=") {
			keep = append(keep, v)
		}
	}
	u.Env = keep
}

// gone checks that nothing of a run is left.
func gone(u *installed.User) {
	u.Helper()
	u.NothingLeft()
	for _, pattern := range []string{u.Top + "/run/tokenfs-run-*", u.Top + "/run/*.sock", u.Top + "/run/*.lock", u.Top + "/tmp/*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			u.Errorf("left behind: %q", left)
		}
	}
}

// outcome runs a command line with tokenfs run and tells all about it.
func outcome(u *installed.User, args ...string) string {
	u.Helper()
	said, code := u.Run(append([]string{"run"}, args...)...)
	return fmt.Sprintf("%sstatus %d", said, code)
}

func kill(u *installed.User, pid int, sig syscall.Signal) {
	u.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		u.Fatalf("kill %d: %v", pid, err)
	}
}
