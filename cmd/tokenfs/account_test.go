package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/needs"
	"tokenfs/lifecycle"
)

// The tests of this package that mount drive the real command: the test binary
// is the command when it is called so.
func TestMain(m *testing.M) {
	lifecycle.BeWorker()
	switch filepath.Base(os.Args[0]) {
	case "tokenfs":
		main()
	case helperName:
		helperMain()
	}
	os.Exit(testMain(m))
}

var command string // path of the command, which any user can run

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tokenfs-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	command = filepath.Join(dir, "tokenfs")
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile("/proc/self/exe", command, 0o755)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, mode))
}

// nobody stands for an ordinary user where the tests run as root.
const nobody = 65534

// An account is a user with a runtime directory of its own.
type account struct {
	*testing.T
	uid     int
	runtime string
	env     []string
}

// eachAccount runs a test that mounts as root and as an ordinary user, as far
// as this machine lets it.
func eachAccount(t *testing.T, test func(a *account)) {
	if os.Geteuid() == 0 {
		asRoot(t, test)
	} else {
		t.Run("root", func(t *testing.T) { t.Skip("NOT RUN as root: the tests were not started by root") })
	}
	asUser(t, test)
}

func asRoot(t *testing.T, test func(a *account)) {
	t.Run("root", func(t *testing.T) {
		needs.Root(t, "mount as root")
		needs.FUSE(t)
		t.Parallel()
		test(newAccount(t, 0))
	})
}

func asUser(t *testing.T, test func(a *account)) {
	t.Run("user", func(t *testing.T) {
		needs.UsersFUSE(t)
		uid := os.Geteuid()
		if uid == 0 {
			uid = nobody
		}
		t.Parallel()
		test(newAccount(t, uid))
	})
}

func newAccount(t *testing.T, uid int) *account {
	t.Helper()
	// Not t.TempDir: only its owner could enter that, and a mount left behind
	// by a failure must not be removed file by file.
	top, err := os.MkdirTemp("", "tokenfs-test")
	if err != nil {
		t.Fatal(err)
	}
	a := &account{T: t, uid: uid, runtime: filepath.Join(top, "run")}
	if err := errors.Join(os.Chmod(top, 0o755), os.Mkdir(a.runtime, 0o700), os.Chown(top, uid, uid), os.Chown(a.runtime, uid, uid)); err != nil {
		t.Fatal(err)
	}
	// The race detector would have every process wait for a second at its end.
	a.env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0", "HOME=" + top, "XDG_RUNTIME_DIR=" + a.runtime}
	t.Cleanup(func() {
		for _, point := range a.mounts() {
			unix.Unmount(point, unix.MNT_DETACH)
			if a.uid != 0 {
				exec.Command("fusermount3", "-u", "-z", point).Run()
			}
		}
		if left := a.mounts(); len(left) > 0 {
			t.Errorf("still mounted: %q", left)
			return
		}
		os.RemoveAll(top)
	})
	return a
}

func (a *account) mountpoint() string { return a.runtime + "/tokenfs" }

// mounts are those below the account's directory.
func (a *account) mounts() (points []string) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		a.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, filepath.Dir(a.runtime)+"/") {
			points = append(points, strings.ReplaceAll(point, `\040`, " "))
		}
	}
	return points
}

func (a *account) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = a.env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if a.uid != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.uid)}
	}
	// A daemon that kept the caller's files open would keep it waiting.
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a program to its end.
func (a *account) run(name string, args ...string) (stdout, stderr string, code int) {
	a.Helper()
	return a.finish(a.command(name, args...))
}

func (a *account) finish(cmd *exec.Cmd) (stdout, stderr string, code int) {
	a.Helper()
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); e != nil && !errors.As(e, &exit) {
		a.Fatalf("%q: %v\n%s%s", cmd.Args, e, &out, &err)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// tokenfs runs the command and wants it to end with code, having said words.
func (a *account) tokenfs(code exitCode, words string, args ...string) string {
	a.Helper()
	stdout, stderr, got := a.run(command, args...)
	a.check(got, code, stdout+stderr, words, args)
	return stdout
}

func (a *account) check(got int, code exitCode, said, words string, args []string) {
	a.Helper()
	if got != int(code) || !strings.Contains(said, words) {
		a.Fatalf("tokenfs %q ended with %d and said %q, want %d and %q", args, got, said, code, words)
	}
	if strings.Contains(said, "goroutine ") {
		a.Fatalf("tokenfs %q panicked: %s", args, said)
	}
}

func (a *account) status() (s lifecycle.Status) {
	a.Helper()
	if err := json.Unmarshal([]byte(a.tokenfs(exitOK, "", "status", "--json")), &s); err != nil {
		a.Fatal(err)
	}
	return s
}

func (a *account) protection(name string) lifecycle.Protection {
	a.Helper()
	st := a.status()
	var found []lifecycle.Protection
	for _, p := range st.Protections {
		if p.Name == name {
			return p
		}
	}
	for _, process := range st.Processes {
		for _, p := range process.Protections {
			if p.Name == name {
				found = append(found, p)
			}
		}
	}
	for _, p := range found { // of all processes, or it is none
		if !p.Active {
			return p
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	a.Fatalf("status does not tell about %s", name)
	return lifecycle.Protection{}
}

// must runs a shell command that must succeed.
func (a *account) must(script string) string {
	a.Helper()
	stdout, stderr, code := a.run("sh", "-c", script)
	if code != 0 {
		a.Fatalf("%s: status %d: %s", script, code, stderr)
	}
	return stdout
}

// fails runs a shell command that must not.
func (a *account) fails(word, script string) {
	a.Helper()
	if stdout, stderr, code := a.run("sh", "-c", script); code == 0 || !strings.Contains(stderr, word) {
		a.Fatalf("%s: status %d: %s%s, want a failure about %q", script, code, stdout, stderr, word)
	}
}

// eventually waits for something that happens by itself, for as long as only what
// never happens takes.
func (a *account) eventually(what string, done func() bool) {
	a.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.Fatalf("never happened: %s", what)
		}
	}
}

func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	// Dead with all its threads, and not yet collected by init.
	return strings.HasPrefix(after, "Z") && len(threads) <= 1
}

// stop makes a daemon hang.
func (a *account) stop(pid int) {
	a.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		a.Fatal(err)
	}
	a.eventually("daemon stops", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, t := range threads {
			stat, err := os.ReadFile(t)
			_, after, _ := strings.Cut(string(stat), ") ")
			if err == nil && !strings.HasPrefix(after, "T") {
				return false
			}
		}
		return len(threads) > 0
	})
}

// nothingLeft checks that a filesystem has ended without traces, except for
// the directory that keeps plaintext out.
func (a *account) nothingLeft(pid int) {
	a.Helper()
	a.eventually("daemon ends", func() bool { return ended(pid) })
	if left := a.mounts(); len(left) > 0 {
		a.Errorf("still mounted: %q", left)
	}
	if _, err := os.Lstat(a.mountpoint() + ".sock"); !errors.Is(err, os.ErrNotExist) {
		a.Errorf("socket left behind: %v", err)
	}
	if st, err := os.Lstat(a.mountpoint()); err != nil || st.Mode() != os.ModeDir|0o500 {
		a.Errorf("directory beneath is left as %v, %v", st.Mode(), err)
	}
}

// foreground starts a daemon that is a child of the test and waits until it
// is ready.
func (a *account) foreground(args ...string) *daemonProcess {
	a.Helper()
	cmd := a.command(command, append([]string{"mount", "-f"}, args...)...)
	d := &daemonProcess{Cmd: cmd, a: a}
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.Fatal(err)
	}
	cmd.Stderr = &d.stderr
	if err := cmd.Start(); err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !bytes.HasPrefix(line[:n], []byte("mounted on ")) {
		cmd.Wait()
		a.Fatalf("daemon said %q, %v, %s", line[:n], err, &d.stderr)
	}
	return d
}

type daemonProcess struct {
	*exec.Cmd
	a      *account
	stderr bytes.Buffer
}

// wantExit waits for the daemon to end, and checks how.
func (d *daemonProcess) wantExit(code int, words string) {
	d.a.Helper()
	timeout := time.AfterFunc(time.Minute, func() { d.Process.Kill() })
	defer timeout.Stop()
	d.Wait()
	if got := d.ProcessState.ExitCode(); got != code || !strings.Contains(d.stderr.String(), words) {
		d.a.Errorf("daemon ended with %v and said %q, want %d and %q", d.ProcessState, &d.stderr, code, words)
	}
}
