package login

import (
	"bytes"
	"context"
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

	"golang.org/x/sys/unix"
)

var (
	must  = flag.Bool("must", false, "fail where a machine cannot be booted, instead of skipping")
	all   = flag.Bool("all", false, "also the cases that want another machine, built and booted for them")
	cache = flag.String("cache", "../../../build/login", "where the systems of the machines are kept")
	slow  = flag.Duration("patience", 30*time.Second, "how long anything may take that is waited for")
)

// buildTimeout is for downloading and installing a system: a minute, where the
// network and the machine have nothing else to do.
const buildTimeout = 8 * time.Minute

// A machine is a container that was booted for the tests of this run.
type machine struct {
	cache  string // absolute
	name   string
	nspawn *exec.Cmd
	pid    int // of its first process, as seen from here
}

// boot starts a machine of a kind that system.sh knows.
func boot(dir, kind string) (m *machine, err error) {
	m = &machine{name: fmt.Sprintf("tokenfs-%s-%d", kind, os.Getpid())}
	if m.cache, err = filepath.Abs(*cache); err != nil {
		return nil, err
	}
	late, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	system := exec.CommandContext(late, "./system.sh", m.cache, kind)
	system.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	system.Cancel = func() error { return unix.Kill(-system.Process.Pid, unix.SIGTERM) }
	system.Stderr = os.Stderr
	if err := system.Run(); err != nil {
		return nil, fmt.Errorf("no system to boot: %w", errors.Join(err, late.Err()))
	}
	var console bytes.Buffer
	run := filepath.Join(dir, kind)
	if err := os.Mkdir(run, 0o700); err != nil {
		return nil, err
	}
	m.nspawn = exec.Command("./boot.sh", filepath.Join(m.cache, kind), dir+"/installed", run, m.name)
	m.nspawn.Stdout, m.nspawn.Stderr = &console, &console
	if err := m.nspawn.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- m.nspawn.Wait() }()
	for deadline := time.Now().Add(*slow); ; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the machine does not boot: %w\n%s", err, &console)
		default:
		}
		// Until it has become nspawn it has other children.
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.nspawn.Process.Pid))
		if m.pid, _ = strconv.Atoi(strings.TrimSpace(string(children))); m.pid != 0 {
			// Nobody but root may log in until the boot is over.
			if out, _ := m.as("systemctl is-system-running"); out == "running" {
				booted = append(booted, m)
				_, err := m.as("systemctl --global --quiet preset tokenfs.service")
				return m, err
			}
		}
		if time.Now().After(deadline) {
			failed, _ := m.as("systemctl --failed --no-legend")
			m.halt()
			return nil, fmt.Errorf("the machine has not booted after %v: %s", *slow, failed)
		}
	}
}

// halt ends the machine and removes what it leaves in the machine around it.
func (m *machine) halt() {
	m.as("systemctl poweroff")
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(m.nspawn.Process.Pid, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			unix.Kill(m.pid, unix.SIGKILL)
			m.nspawn.Process.Kill()
			break
		}
	}
	exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t cgroup2 none /sys/fs/cgroup && find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} \;`, "sh", m.name).Run()
}

// as runs a script as root in the machine, in no login session.
func (m *machine) as(script string) (said string, err error) { return run(m.root(script)) }

func (m *machine) root(script string) *exec.Cmd {
	return exec.Command("nsenter", "--target", strconv.Itoa(m.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script)
}

// ssh makes a login of user with a public key, which ends with the script.
func (m *machine) ssh(user, script string, options ...string) *exec.Cmd {
	args := []string{"--target", strconv.Itoa(m.pid), "--net", "ssh", "-F", "none", "-i", m.cache + "/id",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"}
	return exec.Command("nsenter", append(append(args, options...), user+"@127.0.0.1", script)...)
}

// run returns what a command says, trimmed.
func run(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // a daemon kept the pipe
		err = nil
	}
	said := strings.TrimSpace(out.String())
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return said, err
}

// shared is the machine of this run, or why there is none.
var (
	shared *machine
	noneAs error
	booted []*machine // this, and others
	home   string     // of what machines need
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == helperName {
		helperMain()
	}
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" { // no machine for that
		os.Exit(m.Run())
	}
	var err error
	home, err = os.MkdirTemp("", "tokenfs-login")
	if err == nil {
		if noneAs = ready(); noneAs == nil {
			if err = install(home + "/installed"); err == nil {
				shared, noneAs = boot(home, "systemd")
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "login:", err)
		os.RemoveAll(home)
		os.Exit(1)
	}
	code := m.Run()
	for _, m := range booted {
		m.halt()
	}
	os.RemoveAll(home)
	os.Exit(code)
}

// ready says what a machine lacks that is to boot another one.
func ready() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root to boot a system with logind: sudo make test-login")
	}
	for _, program := range []string{"systemd-nspawn", "nsenter", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("no %s: install systemd-container, util-linux and openssh-client", program)
		}
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("%w: modprobe fuse", err)
	}
	return nil
}

// install installs tokenfs for the machine, as a package does.
func install(to string) error {
	program := filepath.Join(filepath.Dir(to), "tokenfs")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "tokenfs/cmd/tokenfs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := run(build); err != nil {
		return fmt.Errorf("build tokenfs: %w", err)
	}
	if _, err := run(exec.Command("make", "-C", "../../..", "install", "PROGRAM="+program, "DESTDIR="+to, "PREFIX=/usr")); err != nil {
		return fmt.Errorf("make install: %w", err)
	}
	if err := os.MkdirAll(to+"/etc/tokenfs", 0o755); err != nil {
		return err
	}
	return os.WriteFile(to+"/etc/tokenfs/config", []byte("grace = "+grace+"\n"), 0o644)
}
