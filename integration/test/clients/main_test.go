package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tokenfs is the command under test, with the small apps beside it, programs where
// make test-apps puts what comes from npm and the Go module proxy, and path where a
// session finds programs: Debian's, before what else is on the machine.
var tokenfs, programs, path string

func TestMain(m *testing.M) {
	if programs = os.Getenv("TOKENFS_TEST_APPS"); programs == "" {
		programs = "/var/tmp/tokenfs-test-apps"
	}
	path = programs + "/bin:/usr/bin:/bin:/usr/local/bin"
	os.Setenv("PATH", path+":"+os.Getenv("PATH")) // of exec, too
	dir, err := os.MkdirTemp("", "tokenfs-clients")
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // others run what is in it
		panic(err)
	}
	tokenfs = filepath.Join(dir, "tokenfs")
	build := exec.Command("go", "build", "-trimpath", "-o", tokenfs, "tokenfs/cmd/tokenfs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build tokenfs: %v\n%s", err, out)
		os.Exit(1)
	}
	for _, script := range []string{"python/app.py", "python/race.py", "node/race.mjs", "node/app.mjs", "node/identity.mjs"} {
		b, err := os.ReadFile(filepath.Join("testdata", script))
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(script)), b, 0o644); err != nil {
			panic(err)
		}
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}
