package run

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// Each signal sent to tokenfs run reaches the command, once.
func TestSignalsPassedOn(t *testing.T) {
	// Nohup may have been said of these tests: what is caught here, a command gets.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	u := newUser(t)
	r := start(u, "sh", "-c", `
		for s in HUP INT QUIT TERM USR1 USR2; do trap "echo $s" $s; done
		echo ready; while :; do sleep 0.05; done`)
	if said := r.line(); said != "ready" {
		t.Fatal(said)
	}
	for _, s := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM} {
		kill(u, r.pid, s)
		if got, want := r.line(), strings.TrimPrefix(unix.SignalName(s), "SIG"); got != want {
			t.Errorf("after %s came %s", want, got)
		}
	}
	// Nothing came twice: this would come after it.
	kill(u, r.pid, unix.SIGUSR1)
	if got := r.line(); got != "USR1" {
		t.Errorf("after USR1 came %s", got)
	}
	r.kill()
	gone(u)
}

// kill ends the command, and so the run.
func (r *running) kill() {
	r.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", r.pid, r.pid))
	if err != nil {
		r.Fatal(err)
	}
	// The command is the oldest child, the keeper the other.
	kill(r.User, atoi(r, strings.Fields(string(children))[0]), unix.SIGKILL)
	if code := r.wait(); code != 128+9 {
		r.Errorf("status %d after SIGKILL of the command", code)
	}
}

func atoi(r *running, text string) (n int) {
	r.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		r.Fatal(err)
	}
	return n
}

// What nohup has a program ignore, its command ignores.
func TestNohup(t *testing.T) {
	u := newUser(t)
	said, code := u.End(u.Program("nohup", u.Command, "run", "sh", "-c", "kill -HUP $$; kill -HUP $PPID; echo survived"))
	if code != 0 || !strings.Contains(said, "survived") {
		t.Errorf("status %d: %s", code, said)
	}
	gone(u)
}

const terminalName = "on-a-terminal"

// terminalMain executes its arguments with the terminal that is its standard
// input as controlling terminal.
func terminalMain() {
	if _, err := unix.Setsid(); err != nil {
		panic(err)
	}
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		panic(err)
	}
	panic(unix.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

// A terminal is one to type at.
type terminal struct {
	*installed.User
	master *os.File
	cmd    *exec.Cmd

	mu    sync.Mutex
	shown bytes.Buffer
}

// onTerminal starts a shell script on a terminal of its own.
func onTerminal(u *installed.User, script string) *terminal {
	u.Helper()
	// Not pollable: a terminal's end is an error that matters only at the end.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		u.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "terminal")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		u.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		u.Fatal(err)
	}
	defer slave.Close()
	if err := slave.Chown(u.UID, u.UID); err != nil {
		u.Fatal(err)
	}
	self := u.Top + "/" + terminalName
	if err := installed.Copy("/proc/self/exe", self, 0o755); err != nil {
		u.Fatal(err)
	}
	cmd := u.Program(self, "/bin/bash", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		u.Fatal(err)
	}
	t := &terminal{User: u, master: master, cmd: cmd}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			t.mu.Lock()
			t.shown.Write(buf[:n])
			t.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	u.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); master.Close() })
	return t
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(t.shown.String(), "\r\n", "\n")
}

func (t *terminal) expect(words string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(t.text(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never on the terminal: %q. There was: %q", words, t.text())
		}
	}
}

func (t *terminal) press(keys string) {
	t.Helper()
	if _, err := io.WriteString(t.master, keys); err != nil {
		t.Fatal(err)
	}
}

// The command is in the terminal's foreground: it reads what is typed, and the
// interrupt key reaches it once, although tokenfs run gets it as well.
func TestInterruptKey(t *testing.T) {
	u := newUser(t)
	term := onTerminal(u, u.Command+` run bash -c '
		n=0; trap "n=\$((n+1)); echo interrupt \$n" INT
		echo ready; read line; echo read $line; read line; echo bye $n'; echo status $?`)
	term.expect("ready")
	term.press("\x03")
	term.expect("interrupt 1")
	term.press("one\n")
	term.expect("read one")
	term.press("two\n")
	term.expect("bye 1\nstatus 0")
	gone(u)
}

// The stop key stops the job, and the shell's fg continues it.
func TestStopKey(t *testing.T) {
	u := newUser(t)
	term := onTerminal(u, `set -m
		`+u.Command+` run bash -c 'echo token > $XDG_RUNTIME_DIR/tokenfs/x; echo ready; read line; echo read $line; cat $XDG_RUNTIME_DIR/tokenfs/x'
		echo stopped $?; read line; echo shell read $line; fg; echo status $?`)
	term.expect("ready")
	term.press("\x1a")
	term.expect("stopped 1") // 128 and a stop signal
	term.press("one\n")
	term.expect("shell read one")
	term.press("two\n")
	term.expect("read two\ntoken\nstatus 0")
	gone(u)
}

// A shell with job control of its own under tokenfs run keeps the terminal, and
// when it suspends itself, the shell outside notices.
func TestShellInside(t *testing.T) {
	u := newUser(t)
	term := onTerminal(u, `set -m
		`+u.Command+` run bash --norc -i; echo stopped $?; fg; echo status $?`)
	term.expect("$ ") // before that, keys could be lost to readline's setup
	term.press("PS1='ne''xt: '; echo cat is next; cat\n")
	term.expect("\ncat is next\n")
	term.press("for cat\n")
	term.expect("for cat\nfor cat\n")
	term.press("\x03")
	term.expect("next: ")
	term.press("echo for $0\n")
	term.expect("\nfor bash\n")
	term.press("suspend -f\n")
	term.expect("stopped 1")
	term.press("echo back; exit 3\n")
	term.expect("back\n")
	term.expect("status 3")
	gone(u)
}
