// Package mounted builds the tokenfs command and mounts with it, for tests
// that use the filesystem as any program does. It knows the command and the
// control socket, and nothing of how the filesystem works.
package mounted

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/needs"
	"tokenfs/integration/test/scan"
)

// RaceVar in the environment builds the command with the race detector for a test
// that is built without: a test that is a client, and shares no memory with it, only
// gets slower by a detector of its own.
const RaceVar = "TOKENFS_TEST_RACE"

// Race says whether the command is built with the race detector.
var Race = testRace || os.Getenv(RaceVar) != ""

// Build builds the tokenfs command as it is shipped, but for the build tags,
// and returns its path. A test run with -race gets a command built with -race.
//
// As root it is where root alone decides, as a package's is: a keeper of root's
// executes nothing else in an upgrade.
func Build(t testing.TB, tags ...string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		dir = RootsDirectory(t)
	}
	out := filepath.Join(dir, "tokenfs")
	args := []string{"build", "-trimpath", "-tags", strings.Join(tags, ","), "-o", out}
	if Race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "tokenfs/cmd/tokenfs")...)
	cmd.Env = os.Environ()
	if !Race {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build tokenfs: %v\n%s", err, msg)
	}
	return out
}

// RootsDirectory makes a directory that root alone decides on until the test ends, as
// /usr/bin is: nothing below /tmp is.
func RootsDirectory(t testing.TB) string {
	t.Helper()
	const parent = "/opt"
	err := os.MkdirAll(parent, 0o755)
	dir := ""
	if err == nil {
		dir, err = os.MkdirTemp(parent, "tokenfs-test")
	}
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A Mount is mounted until its test ends.
type Mount struct {
	Dir     string
	command string
	races   string // where the race detector of the command writes
}

// New mounts with command, an executable from Build, in a directory of its own.
func New(t testing.TB, command string, args ...string) *Mount {
	t.Helper()
	needs.FUSE(t)
	tmp := t.TempDir()
	m := &Mount{Dir: filepath.Join(tmp, "mnt"), command: command, races: filepath.Join(tmp, "race")}
	if err := os.Mkdir(m.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(t) })
	if out, err := m.run("mount", append(args, m.Dir)...); err != nil {
		t.Fatalf("tokenfs mount: %v\n%s", err, out)
	}
	if !m.mounted(t) {
		t.Fatalf("tokenfs mount succeeded, and %s is not mounted", m.Dir)
	}
	return m
}

// Run runs a verb of the command on the mount, and fails the test if it fails.
func (m *Mount) Run(t testing.TB, verb string, args ...string) string {
	t.Helper()
	out, err := m.run(verb, append([]string{"--mountpoint", m.Dir}, args...)...)
	if err != nil {
		t.Fatalf("tokenfs %s: %v\n%s", verb, err, out)
	}
	return out
}

func (m *Mount) run(verb string, args ...string) (string, error) {
	cmd := exec.Command(m.command, append([]string{verb}, args...)...)
	// Settings of whoever runs the test are not the test's.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TOKENFS_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+filepath.Dir(m.Dir), "XDG_CONFIG_HOME=", "GORACE=log_path="+m.races)
	// A pipe would stay open in the daemon; wait for the command alone.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = fmt.Errorf("it left its standard output open in the background")
	}
	return string(out), err
}

func (m *Mount) dial() (*net.UnixConn, error) {
	c, err := net.Dial("unix", m.Dir+".sock")
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.UnixConn), nil
}

// PIDs are those of the daemon's processes: the keeper, which listens on the
// control socket, and then its children.
func (m *Mount) PIDs(t testing.TB) []int {
	t.Helper()
	c, err := m.dial()
	if err != nil {
		t.Fatalf("control socket: %v", err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		t.Fatalf("control socket: %v", errors.Join(cerr, err))
	}
	pids, err := scan.Family(int(cred.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// Control sends a request to the control socket and returns the reply.
func (m *Mount) Control(t testing.TB, request string) []byte {
	t.Helper()
	c, err := m.dial()
	if err != nil {
		t.Fatalf("control socket: %v", err)
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, request); err != nil {
		t.Fatalf("control socket: send: %v", err)
	}
	reply, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		t.Fatalf("control socket: no reply to %s: %v", request, err)
	}
	return reply
}

func (m *Mount) mounted(t testing.TB) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(b, []byte(" "+m.Dir+" "))
}

// end unmounts, and fails the test if that does not work or anything raced.
func (m *Mount) end(t testing.TB) {
	if m.mounted(t) {
		if out, err := m.run("unmount", "--mountpoint", m.Dir); err != nil {
			t.Errorf("tokenfs unmount: %v\n%s", err, out)
		}
	}
	if m.mounted(t) {
		t.Errorf("%s is still mounted", m.Dir)
		unix.Unmount(m.Dir, unix.MNT_DETACH)
	}
	logs, _ := filepath.Glob(m.races + "*")
	for _, log := range logs {
		b, _ := os.ReadFile(log)
		t.Errorf("the race detector found:\n%s", b)
	}
}
