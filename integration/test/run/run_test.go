package run

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
)

func TestStatus(t *testing.T) {
	u := newUser(t)
	if err := os.WriteFile(u.Top+"/text", []byte("\x00no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.Top+"/garbage", []byte("\x00no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"true"}, "status 0"},
		{[]string{"--", "sh", "-c", "exit 7"}, "status 7"},
		{[]string{"sh", "-c", "kill -9 $$"}, "status 137"},
		{[]string{"sh", "-c", "kill -TERM $$"}, "status 143"},
		{[]string{"sh", "-c", "echo \"$@\"", "--size", "-x"}, "-x\nstatus 0"}, // not ours
		{[]string{"no-such-command"}, "no-such-command: executable file not found in $PATH\nstatus 127"},
		{[]string{u.Top + "/none"}, "no such file or directory\nstatus 127"},
		{[]string{u.Top + "/text"}, "permission denied\nstatus 126"},
		{[]string{u.Top + "/garbage"}, "exec format error\nstatus 126"},
		{[]string{u.Top}, "status 126"},
		{nil, "run: no COMMAND: run tokenfs help run\nstatus 125"},
		{[]string{"--private=maybe", "true"}, "not auto, require or off\nstatus 125"},
		{[]string{"--size=1", "true"}, "status 125"},
		{[]string{"--mountpoint", "/proc", "true"}, "status 125"},
	} {
		if got := outcome(u, c.args...); !strings.HasSuffix(got, c.want) {
			t.Errorf("run %q: %s, want %s", c.args, got, c.want)
		}
	}
	gone(u)
}

// What the command is must not depend on whether tokenfs runs it.
func TestWhatTheCommandInherits(t *testing.T) {
	const script = `id; pwd; umask; ulimit -c; cat; env | sort | grep -v ^_=
		grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Seccomp|SigBlk' /proc/self/status
		for fd in /proc/self/fd/*; do case $(readlink $fd) in /proc/*) ;; *) echo fd ${fd##*/} ;; esac; done
		cat <&7; nice; trap; ps -o sid=,pgid= $$ 2>/dev/null | wc -w`
	eachUser(t, func(u *installed.User) {
		start := func(args ...string) string {
			file, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				u.Fatal(err)
			}
			defer file.Close()
			file.WriteString("from seven\n")
			file.Seek(0, 0)
			cmd := u.Program(args[0], args[1:]...)
			cmd.Dir = u.Top
			cmd.Stdin = strings.NewReader("from standard input\n")
			cmd.ExtraFiles = []*os.File{nil, nil, nil, nil, file}
			cmd.Env = append(cmd.Env, "SPECIAL=*' \"", "GODEBUG=madvdontneed=1")
			said, code := u.End(cmd)
			if code != 0 {
				u.Fatalf("%q: %d: %s", args, code, said)
			}
			return said
		}
		plain := start("sh", "-c", script)
		ours := start(u.Command, "run", "--private=require", "sh", "-c", script)
		if plain != ours || !strings.Contains(plain, "from seven") {
			u.Errorf("without tokenfs run:\n%s\nwith it:\n%s", plain, ours)
		}
	})
}

func TestPrivate(t *testing.T) {
	eachUser(t, func(u *installed.User) {
		u.Must("mount")
		u.Shell("echo outer > " + u.Path("token"))
		before := u.Mounts()
		said := outcome(u, "--private=require", "sh", "-c", `
			set -e
			cd $XDG_RUNTIME_DIR/tokenfs
			test ! -e token; echo inner > token
			test "$(`+u.Command+` status --json | grep -c '"private": true')" = 1
			! `+u.Command+` unmount || exit 1
			! `+u.Command+` upgrade || exit 2
			`+u.Command+` mount
			cat token
			`+u.Command+` wipe token
			test ! -e token; echo again > token
			`+u.Command+` wipe; test ! -e token
			echo more > more
			`+u.Command+` run --private=require sh -ec 'cd $XDG_RUNTIME_DIR/tokenfs; test ! -e more; echo nested > more; cat more'
			cat more; grep -c fuse.tokenfs /proc/self/mountinfo >&2`)
		for _, word := range []string{"mounted already", "inner\n", "nested\nmore\n", "wiped 1 file", "wiped everything", "ends with its command", "status 0"} {
			if !strings.Contains(said, word) {
				u.Errorf("inside: no %q in %s", word, said)
			}
		}
		if got := u.Shell("ls " + u.Mountpoint() + "; cat " + u.Path("token")); got != "token\nouter\n" {
			u.Errorf("outside there is now %q", got)
		}
		if after := u.Mounts(); len(after) != len(before) {
			u.Errorf("mounted outside: %q, before %q", after, before)
		}
		u.Must("unmount")
		gone(u)
	})
}

// A running is a tokenfs run whose command talks to the test.
type running struct {
	*installed.User
	pid   int
	out   *os.File
	lines *bufio.Scanner
	wait  func() int // for its status
}

func start(u *installed.User, args ...string) *running {
	u.Helper()
	return startCommand(u, u.Program(u.Command, append([]string{"run"}, args...)...))
}

func startCommand(u *installed.User, cmd *exec.Cmd) *running {
	u.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		u.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, os.Stderr
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		u.Fatal(err)
	}
	in.Close()
	u.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // whatever it left
	ended := make(chan int, 1)
	go func() { cmd.Wait(); ended <- cmd.ProcessState.ExitCode() }()
	return &running{u, cmd.Process.Pid, out, bufio.NewScanner(out), sync.OnceValue(func() int {
		defer out.Close()
		defer time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() }).Stop()
		return <-ended
	})}
}

// line waits for one that the command prints.
func (r *running) line() string {
	r.Helper()
	r.out.SetReadDeadline(time.Now().Add(30 * time.Second))
	if !r.lines.Scan() {
		r.Fatalf("the command said nothing more: %v", r.lines.Err())
	}
	return r.lines.Text()
}

func (r *running) number() int {
	r.Helper()
	n, err := strconv.Atoi(r.line())
	if err != nil {
		r.Fatal(err)
	}
	return n
}

// Several at a time do not see each other, each in its own namespace.
func TestManyAtATime(t *testing.T) {
	u := newUser(t)
	gate := u.Top + "/gate"
	if err := syscall.Mkfifo(gate, 0o666); err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	os.Chmod(gate, 0o666)
	var runs []*running
	for range 5 {
		runs = append(runs, start(u, "--private=require", "sh", "-c",
			`cd $XDG_RUNTIME_DIR/tokenfs; ls | wc -l; echo $$ > x; echo written; read go < `+gate+`; ls | wc -l; test $(cat x) = $$`))
	}
	for _, r := range runs {
		if n, said := r.number(), r.line(); n != 0 || said != "written" {
			t.Errorf("%d files in a new filesystem, and then it said %s", n, said)
		}
	}
	open.WriteString(strings.Repeat("\n", len(runs)))
	for _, r := range runs {
		if n, code := r.number(), r.wait(); n != 1 || code != 0 {
			t.Errorf("%d files in a filesystem with one, status %d", n, code)
		}
	}
	gone(u)
}

// Who outlives the command has no filesystem any more.
func TestLeftOver(t *testing.T) {
	eachUser(t, func(u *installed.User) {
		r := start(u, "--private=require", "sh", "-c", `
			cd $XDG_RUNTIME_DIR/tokenfs; echo token > x
			(exec 3<x; echo opened; touch opened
			 while kill -0 $PPID 2>/dev/null; do sleep 0.02; done
			 cat <&3 || echo refused; cat x || echo refused; ls . || echo refused; echo end) 2>/dev/null &
			until test -e opened; do sleep 0.02; done`)
		if said := r.line(); said != "opened" {
			u.Fatal(said)
		}
		for n, want := range []string{"refused", "refused", "refused", "end"} {
			if said := r.line(); said != want {
				u.Errorf("line %d after the end of the command: %s", n, said)
			}
		}
		if code := r.wait(); code != 0 {
			u.Errorf("status %d", code)
		}
		gone(u)
	})
}
