package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"tokenfs/cmd/internal/printable"
)

// The scripts in testdata/script drive the real command, each in a home and a
// runtime directory of its own: as root, if root runs the tests, and as an
// ordinary user.
func TestScripts(t *testing.T) {
	t.Run("root", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("NOT RUN as root: the tests were not started by root")
		}
		runScripts(t)
	})
	t.Run("user", func(t *testing.T) {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			t.Skip("NOT RUN: users cannot mount here: install fuse3")
		}
		if os.Geteuid() == 0 {
			runScriptsAsNobody(t)
		} else {
			runScripts(t)
		}
	})
}

func runScripts(t *testing.T) {
	if st, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 && st.Mode()&0o006 != 0o006 {
		t.Skip("NOT RUN: nothing can be mounted here:", err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setUpScript,
		Condition:           scriptCondition,
		RequireExplicitExec: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":      exits,
			"printable":  wantPrintable,
			"eventually": eventually,
		},
	})
}

// runScriptsAsNobody does so in a process of that user.
func runScriptsAsNobody(t *testing.T) {
	dir, err := os.MkdirTemp("", "tokenfs-scripts")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chmod(dir, 0o755), os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS("testdata"))); err != nil {
		t.Fatal(err)
	}
	which := flag.Lookup("test.run").Value.String()
	if !strings.Contains(which, "TestScripts") {
		which = "^TestScripts$"
	}
	cmd := exec.Command(command, "-test.run="+which, "-test.skip=^(Fuzz|Test([^S]|S[^c]))", "-test.v="+fmt.Sprint(testing.Verbose()), "-test.paniconexit0")
	cmd.Args[0] = "scripts.test" // or it were the command
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Run(); err != nil {
		t.Errorf("scripts as uid %d: %v", nobody, err)
	}
}

func setUpScript(env *testscript.Env) error {
	home, run := filepath.Join(env.WorkDir, "home"), filepath.Join(env.WorkDir, "run")
	env.Setenv("HOME", home)
	env.Setenv("XDG_RUNTIME_DIR", run)
	env.Setenv("M", filepath.Join(run, "tokenfs"))
	env.Setenv("PATH", filepath.Dir(command)+":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
	env.Setenv("LC_ALL", "C.UTF-8")
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	env.Defer(func() { unmountBelow(env.WorkDir) })
	return errors.Join(os.MkdirAll(home, 0o700), os.MkdirAll(run, 0o700), os.Chmod(home, 0o700), os.Chmod(run, 0o700))
}

// unmountBelow ends what a script has left mounted.
func unmountBelow(dir string) {
	for _, point := range mountsBelow(dir) {
		exec.Command(command, "unmount", "--mountpoint", point).Run()
		unix.Unmount(point, unix.MNT_DETACH)
		exec.Command("fusermount3", "-u", "-z", point).Run()
	}
}

func mountsBelow(dir string) (points []string) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir+"/") {
			points = append(points, strings.ReplaceAll(point, `\040`, " "))
		}
	}
	return points
}

func scriptCondition(cond string) (bool, error) {
	switch cond {
	case "uid0":
		return os.Geteuid() == 0, nil
	case "overlay": // in a user namespace
		dir, err := os.MkdirTemp("", "overlay")
		if err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
		return exec.Command("unshare", "-Urm", "sh", "-c", "cd "+dir+" && mkdir l u w && mount -t overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w none l").Run() == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// exits wants a command to end with a status: exits CODE PROGRAM [ARG ...].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG ...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("%q ended with %d, want %s", args[1:], got, args[0])
	}
}

// wantPrintable says that what the last command said does nothing to a terminal.
func wantPrintable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: printable")
	}
	for _, name := range []string{"stdout", "stderr"} {
		for line := range strings.SplitSeq(ts.ReadFile(name), "\n") {
			if i := strings.IndexFunc(line, func(r rune) bool { return !printable.Graphic(r) }); i >= 0 {
				ts.Fatalf("%s does something to a terminal: %q", name, line)
			}
		}
	}
}

// eventually runs a command until it succeeds: eventually PROGRAM [ARG ...].
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if err := ts.Exec(args[0], args[1:]...); (err == nil) != neg {
			return
		} else if time.Now().After(deadline) {
			ts.Fatalf("never so: %q: %v", args, err)
		}
	}
}
