package pam

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	must  = flag.Bool("must", false, "fail where no host can be set up, instead of skipping")
	all   = flag.Bool("all", false, "also the cases that want another host, built for them")
	cache = flag.String("cache", "../../../build/login", "where the systems of the hosts are kept")
)

// patience is for what happens by itself on a machine that is busy.
const patience = 30 * time.Second

// grace is that of the host's configuration.
const grace = time.Second

// A host runs an sshd.
type host struct {
	*testing.T
	cache   string
	process *exec.Cmd
	pid     int // of its first process, as seen from here
	name    string
}

var (
	shared  *host
	noneAs  error
	started []*host // this, and others
	home    string  // of what they need
)

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if home, err = os.MkdirTemp("", "tokenfs-pam"); err == nil {
		if noneAs = ready(); noneAs == nil {
			if err = install(); err == nil {
				shared, err = start("systemd")
			}
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "pam:", err)
	} else {
		code = m.Run()
	}
	for _, h := range started {
		h.stop()
	}
	os.RemoveAll(home)
	os.Exit(code)
}

// stop ends a host, and all that is in there.
func (h *host) stop() {
	if h.pid != 0 {
		syscall.Kill(h.pid, syscall.SIGKILL)
	} else {
		h.process.Process.Kill()
	}
	h.process.Wait() // until nothing is left that a cgroup could be of
	exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t cgroup2 none /sys/fs/cgroup && find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} \;`, "sh", h.name).Run()
}

// ready says what this machine lacks.
func ready() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root to have users log in: sudo make test-login")
	}
	for _, program := range []string{"unshare", "nsenter", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("no %s: install util-linux and openssh-client", program)
		}
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("%w: modprobe fuse", err)
	}
	return nil
}

// install makes what is installed on each host.
func install() error {
	for _, program := range []string{"tokenfs", "tokenfs-pam"} {
		build := exec.Command("go", "build", "-trimpath", "-o", home+"/"+program, "tokenfs/cmd/"+program)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", program, err, out)
		}
	}
	install := exec.Command("make", "-C", "../../..", "install", "install-pam", "PROGRAM="+home+"/tokenfs", "DESTDIR="+home+"/installed", "PREFIX=/usr")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("make install: %w: %s", err, out)
	}
	return errors.Join(os.MkdirAll(home+"/installed/etc/tokenfs", 0o755),
		os.WriteFile(home+"/installed/etc/tokenfs/config", []byte(fmt.Sprintf("grace = %v\n", grace)), 0o644))
}

// start sets a host up, on a system of a kind that system.sh knows.
func start(kind string) (*host, error) {
	dir, err := filepath.Abs(*cache)
	if err != nil {
		return nil, err
	}
	system := exec.Command("../login/system.sh", dir, kind)
	system.Stderr = os.Stderr
	if err := system.Run(); err != nil {
		return nil, fmt.Errorf("no system to log in to: %w", err)
	}
	needs := filepath.Join(home, kind)
	if err := os.Mkdir(needs, 0o755); err != nil {
		return nil, err
	}
	var console bytes.Buffer
	h := &host{cache: dir, name: fmt.Sprintf("tokenfs-pam-%s-%d", kind, os.Getpid())}
	h.process = exec.Command("./host.sh", filepath.Join(dir, kind), home+"/installed", needs, h.name)
	h.process.Stdout, h.process.Stderr = &console, &console
	if err := h.process.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", h.process.Process.Pid))
		if h.pid, _ = strconv.Atoi(strings.TrimSpace(string(children))); h.pid != 0 {
			if said, err := run(h.ssh("alice", "echo in")); err == nil && said == "in" {
				started = append(started, h)
				return h, nil
			}
		}
		if time.Now().After(deadline) {
			h.stop()
			return nil, fmt.Errorf("nobody can log in after %v: %s", patience, &console)
		}
	}
}

// newHost is the shared one, at rest.
func newHost(t *testing.T) *host {
	t.Helper()
	if noneAs != nil {
		if *must {
			t.Fatal(noneAs)
		}
		t.Skip("NOT RUN: ", noneAs)
	}
	return shared.with(t)
}

// with is a host at rest, for one test.
func (h host) with(t *testing.T) *host {
	t.Helper()
	h.T = t
	h.rest()
	t.Cleanup(h.rest)
	return &h
}

// run returns what a command says, trimmed.
func run(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	said := strings.TrimSpace(out.String())
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return said, err
}

// root runs a script as root in the host, in no login session.
func (h *host) root(script string) string {
	h.Helper()
	said, err := run(exec.Command("nsenter", "--target", strconv.Itoa(h.pid), "--mount", "--uts", "--ipc", "--net", "--pid",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script))
	if err != nil {
		h.Fatalf("%s: %v", script, err)
	}
	return said
}

// ssh makes a login which ends with the script.
func (h *host) ssh(user, script string, options ...string) *exec.Cmd {
	args := []string{"--target", strconv.Itoa(h.pid), "--net", "ssh", "-F", "none", "-i", h.cache + "/id",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"}
	cmd := exec.Command("nsenter", append(append(args, options...), user+"@127.0.0.1", script)...)
	cmd.Stdin = nil
	return cmd
}

// login is ssh, which must succeed.
func (h *host) login(user, script string, options ...string) string {
	h.Helper()
	// Errors come where they were said: ssh keeps two streams apart.
	said, err := run(h.ssh(user, "exec 2>&1; "+script, options...))
	if err != nil {
		h.Fatalf("ssh %s %s: %v", user, script, err)
	}
	return said
}

// A session lasts until it is ended.
type session struct {
	h   *host
	cmd *exec.Cmd
	out *os.File
	in  *os.File
}

// stay opens a session, and returns when its script, before which the shell is
// in the filesystem, has run.
func (h *host) stay(user, script string) *session {
	h.Helper()
	cmd := h.ssh(user, "cd /run/user/$(id -u)/tokenfs && { "+script+"; } && echo done; read end; exit 0")
	in, feed, err := os.Pipe()
	if err != nil {
		h.Fatal(err)
	}
	out, say, err := os.Pipe()
	if err != nil {
		h.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, say, say
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	in.Close()
	say.Close()
	s := &session{h, cmd, out, feed}
	h.Cleanup(func() { s.cmd.Process.Kill(); s.end() })
	var said []byte
	out.SetReadDeadline(time.Now().Add(patience))
	for buf := make([]byte, 4096); !bytes.HasSuffix(said, []byte("done\n")); {
		n, err := out.Read(buf)
		if said = append(said, buf[:n]...); err != nil {
			h.Fatalf("session of %s: %v: %s", user, err, said)
		}
	}
	return s
}

func (s *session) end() {
	s.in.Close()
	s.cmd.Wait()
	s.out.Close()
}

// eventually waits for a script to succeed.
func (h *host) eventually(what, script string) (after time.Duration) {
	h.Helper()
	began := time.Now()
	for ; ; time.Sleep(20 * time.Millisecond) {
		if h.root("if "+script+"; then echo yes; fi") == "yes" {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			h.Fatalf("not after %v: %s; there is %s", patience, what,
				h.root("grep tokenfs /proc/self/mountinfo; ls -lR /run/user; ps -eo user,pid,ppid,args | grep -E 'tokenfs|sshd'; tail -n +1 /run/tokenfs/*"))
		}
	}
}

const nothing = "! grep -q fuse.tokenfs /proc/self/mountinfo && test -z \"$(ls /run/user 2>/dev/null)\" && ! pgrep tokenfs >/dev/null"

// rest waits until nobody is logged in, and nothing is left of it.
func (h *host) rest() {
	h.Helper()
	h.eventually("nothing is left of any login", nothing)
}

func (h *host) uid(user string) string { h.Helper(); return h.root("id -u " + user) }

// logins are those that root has on record for alice.
func (h *host) logins() string {
	h.Helper()
	return h.root(`sed 's/"remover".*//' /run/tokenfs/$(id -u alice) | grep -o '"pid"' | wc -l`)
}
