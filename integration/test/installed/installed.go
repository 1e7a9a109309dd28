// Package installed sets the tokenfs command up as a package does, root's and
// unreadable, and uses it as an ordinary user, for tests of what only such a
// user can run into. It needs root, and says so loudly where it is not.
package installed

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/mounted"
	"tokenfs/integration/test/needs"
	"tokenfs/lifecycle"
)

// nobody stands for an ordinary user.
const nobody = 65534

// A User has a command to run and a directory to mount in.
type User struct {
	testing.TB
	UID     int
	Command string
	Top     string // the user's, and removed at the end
	Env     []string
	runtime string
	program string // directory of the command
}

// Modes of the command: as packages install it, and as go install does.
const (
	Packaged = 0o711
	Private  = 0o755 // and it belongs to the user
)

// New installs command, which is from Build, for a user of its own.
func New(t testing.TB, command string, mode os.FileMode) *User {
	t.Helper()
	needed(t)
	// Not t.TempDir, which only its owner can enter.
	top, err := os.MkdirTemp("", "tokenfs-user")
	if err != nil {
		t.Fatal(err)
	}
	u := &User{TB: t, UID: nobody, Top: top, runtime: filepath.Join(top, "run"), program: top}
	owner := u.UID
	if mode != Private {
		owner, u.program = 0, mounted.RootsDirectory(t)
	}
	u.Command = filepath.Join(u.program, "tokenfs")
	if err := errors.Join(os.Chmod(top, 0o755), os.Chown(top, u.UID, u.UID),
		os.Mkdir(u.runtime, 0o700), os.Chown(u.runtime, u.UID, u.UID),
		Copy(command, u.Command, mode), os.Chown(u.Command, owner, owner)); err != nil {
		t.Fatal(err)
	}
	u.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + top, "XDG_RUNTIME_DIR=" + u.runtime, "GORACE=atexit_sleep_ms=0"}
	t.Cleanup(u.end)
	return u
}

func needed(t testing.TB) {
	t.Helper()
	needs.Root(t, "install the command as a package does")
	needs.UsersFUSE(t)
}

// Build builds the command; the tests of a package share it.
func Build(t testing.TB, tags ...string) string { return mounted.Build(t, tags...) }

// Copy copies a program.
func Copy(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	// No child may inherit the file while it can be written: nobody could run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, mode))
}

// Mountpoint is where the user's tokenfs is mounted.
func (u *User) Mountpoint() string { return u.runtime + "/tokenfs" }

// Path names a file in the filesystem.
func (u *User) Path(name string) string { return u.Mountpoint() + "/" + name }

// Program makes a command that runs as the user.
func (u *User) Program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = u.Env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.UID)}}
	cmd.WaitDelay = time.Second // a daemon that kept a pipe would keep us
	return cmd
}

// Run runs tokenfs to its end.
func (u *User) Run(args ...string) (said string, code int) {
	u.Helper()
	return u.End(u.Program(u.Command, args...))
}

// End runs any command to its end.
func (u *User) End(cmd *exec.Cmd) (said string, code int) {
	u.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		u.Fatalf("%q: %v\n%s", cmd.Args, err, &out)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// Must runs tokenfs, which must succeed.
func (u *User) Must(args ...string) string {
	u.Helper()
	said, code := u.Run(args...)
	if code != 0 {
		u.Fatalf("tokenfs %q: status %d: %s", args, code, said)
	}
	return said
}

// Shell runs a script as the user, which must succeed.
func (u *User) Shell(script string) string {
	u.Helper()
	said, code := u.End(u.Program("sh", "-c", script))
	if code != 0 {
		u.Fatalf("%s: status %d: %s", script, code, said)
	}
	return said
}

// Status asks the filesystem.
func (u *User) Status() (s lifecycle.Status) {
	u.Helper()
	said := u.Must("status", "--json")
	if err := json.Unmarshal([]byte(said), &s); err != nil {
		u.Fatalf("status: %v: %s", err, said)
	}
	return s
}

// Eventually waits for something that happens by itself. However short within is, a
// busy machine has a minute: only what never happens fails.
func (u *User) Eventually(what string, within time.Duration, done func() bool) {
	u.Helper()
	within = max(within, time.Minute)
	for deadline := time.Now().Add(within); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			u.Fatalf("not within %v: %s", within, what)
		}
	}
}

// Ended says whether a process is gone, or dead and not yet collected.
func Ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	threads, _ := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	return strings.HasPrefix(after, "Z") && len(threads) <= 1
}

// Mounts are those in the user's directory.
func (u *User) Mounts() (points []string) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		u.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, u.Top+"/") {
			points = append(points, point)
		}
	}
	return points
}

// Processes are those of the user's command.
func (u *User) Processes() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if exe, err := os.Readlink(d + "/exe"); err == nil && strings.TrimSuffix(exe, " (deleted)") == u.Command {
			if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// NothingLeft checks that a filesystem has ended without traces.
func (u *User) NothingLeft() {
	u.Helper()
	u.Eventually("all processes end", 10*time.Second, func() bool {
		for _, pid := range u.Processes() {
			if !Ended(pid) {
				return false
			}
		}
		return true
	})
	if left := u.Mounts(); len(left) > 0 {
		u.Errorf("still mounted: %q", left)
	}
	if _, err := os.Lstat(u.Mountpoint() + ".sock"); !errors.Is(err, os.ErrNotExist) {
		u.Errorf("socket left behind: %v", err)
	}
}

func (u *User) end() {
	for _, pid := range u.Processes() {
		unix.Kill(pid, unix.SIGKILL)
	}
	for _, point := range u.Mounts() {
		unix.Unmount(point, unix.MNT_DETACH)
	}
	if left := u.Mounts(); len(left) > 0 {
		u.Errorf("still mounted: %q", left)
		return
	}
	os.RemoveAll(u.Top)
	os.RemoveAll(u.program)
}
