package attack

import (
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokenfs/integration/test/installed"
)

var kills = flag.Int("kills", 100, "how often to kill the worker under attack")

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case toyKeeper:
		toyKeeperMain()
	case toyWorker:
		toyWorkerMain()
	case hostileName:
		hostileMain()
	case attackerName:
		attackerMain()
	case tracerName:
		tracerMain()
	case robberName:
		robberMain()
	case plotterName:
		plotterMain()
	case heirName:
		heirMain()
	case victimName:
		victimMain()
	}
	os.Exit(m.Run())
}

// hidden says what of this machine would hide a success.
func hidden() (why string) {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return ""
	}
	if s := strings.TrimSpace(string(scope)); s != "0" {
		return "kernel.yama.ptrace_scope is " + s
	}
	return ""
}

func tellYama(t *testing.T) {
	t.Helper()
	if why := hidden(); why != "" {
		t.Logf("WEAK RUN: %s, which stops these attacks on any process: nothing of what follows is ours", why)
		return
	}
	t.Log("kernel.yama.ptrace_scope is 0 or absent: only what tokenfs does itself stops the attacks")
}

// an attack runs as the user until its order is carried out, or until end.
type attack struct {
	*testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
}

// as is this program under a name that TestMain knows, where the user can run it.
func as(u *installed.User, name string) string {
	u.Helper()
	program := filepath.Join(u.Top, name)
	if _, err := os.Stat(program); err != nil {
		if err := installed.Copy("/proc/self/exe", program, 0o755); err != nil {
			u.Fatal(err)
		}
	}
	return program
}

func begin(t *testing.T, u *installed.User, o order) *attack {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	a := &attack{T: t, cmd: u.Program(as(u, attackerName), string(text))}
	a.cmd.Stderr = os.Stderr
	if a.in, err = a.cmd.StdinPipe(); err == nil {
		a.out, err = a.cmd.StdoutPipe()
	}
	if err == nil {
		err = a.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.cmd.Process.Kill(); a.cmd.Wait() })
	return a
}

// end ends an attack, or waits until it has done what it was to do.
func (a *attack) end(o order) (r report) {
	a.Helper()
	if o.Kill == 0 {
		io.WriteString(a.in, "\n")
	}
	limit := time.AfterFunc(20*time.Minute, func() { a.cmd.Process.Kill() })
	defer limit.Stop()
	if err := json.NewDecoder(a.out).Decode(&r); err != nil {
		a.Fatalf("the attacker did not report: %v", err)
	}
	if r.UID == 0 || r.Trouble != "" {
		a.Fatalf("the attacker ran as uid %d and had trouble: %q", r.UID, r.Trouble)
	}
	return r
}

func (r report) print(t *testing.T) {
	t.Helper()
	t.Logf("uid %d: %d kills, %d processes attacked, slowest answer after a kill %v", r.UID, r.Kills, r.Targets, r.Slowest)
	for name, n := range r.Tries {
		t.Logf("  %-20s %8d tries, %8d refused, %d processes reached", name, n, r.Refused[name], r.Reached[name])
	}
}

// wantNone checks that every way was tried in earnest, and in vain.
func (r report) wantNone(t *testing.T, traced bool) {
	t.Helper()
	r.print(t)
	wanted := ways
	if traced {
		wanted = append(append([]way{}, ways...), tracing...)
	}
	for _, w := range wanted {
		if r.Refused[w.name] == 0 {
			t.Errorf("%s was never refused: it met no living process", w.name)
		}
	}
	for name, n := range r.Reached {
		if n > 0 {
			t.Errorf("%s got at %d processes", name, n)
		}
	}
	// Who listens in the namespace that has no permissions has to tell who comes.
	if n := r.Tries[listening]; n > 0 {
		t.Errorf("%d times a process listened where anybody can connect", n)
	}
}

var built string

func command(t *testing.T) string {
	t.Helper()
	if built == "" {
		dir, err := os.MkdirTemp("", "tokenfs-attack")
		if err != nil {
			t.Fatal(err)
		}
		built = filepath.Join(dir, "tokenfs")
		if err := installed.Copy(installed.Build(t), built, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return built
}

// As packages install it, no process of the user gets at anything while the
// worker is killed over and over.
func TestNobodyReachesAWorkerThatIsStarting(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	tellYama(t)
	u.Must("mount")
	u.Shell("echo still here > " + u.Path("x"))
	keeper := u.Status().Mount.PID
	o := order{Below: keeper, Self: true, Kill: keeper, Kills: *kills, File: u.Path("x"), Trace: true}
	r := begin(t, u, o).end(o)
	r.wantNone(t, true)
	if r.LastFile != "still here\n" {
		t.Errorf("the file holds %q", r.LastFile)
	}
	s := u.Status()
	// A few of them come and go while the attacker looks at others.
	if s.Worker.Restarts < *kills || r.Targets < *kills*3/4 {
		t.Errorf("%d restarts and %d processes attacked after %d kills: %+v", s.Worker.Restarts, r.Targets, r.Kills, s.Messages)
	}
	u.Must("unmount")
	u.NothingLeft()
}

// Nor while it is upgraded: the keeper executes the new program, a holder has
// everything meanwhile, and a rehearsal comes first.
func TestNobodyReachesAnUpgrade(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	tellYama(t)
	u.Must("mount")
	u.Shell("echo still here > " + u.Path("x"))
	keeper := u.Status().Mount.PID
	o := order{Below: keeper, Self: true, Kill: keeper, Kills: max(*kills/2, 25), File: u.Path("x"), Trace: true, Upgrade: u.Command}
	r := begin(t, u, o).end(o)
	r.wantNone(t, true)
	s := u.Status()
	if r.LastFile != "still here\n" || s.Mount.PID != keeper {
		t.Errorf("the file holds %q; the keeper is %d, and was %d", r.LastFile, s.Mount.PID, keeper)
	}
	if r.Upgrades < o.Kills/5 || s.Mount.Upgrades != r.Upgrades {
		t.Errorf("%d upgrades after %d kills; status counts %d", r.Upgrades, r.Kills, s.Mount.Upgrades)
	}
	t.Logf("%d upgrades among them", r.Upgrades)
	u.Must("unmount")
	u.NothingLeft()
}

// Nor while the filesystem is being mounted, used and unmounted.
func TestNobodyReachesAFilesystemThatIsMounted(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	tellYama(t)
	// A daemon in the background would be init's child.
	o := order{Below: os.Getpid(), Named: true, Trace: true}
	a := begin(t, u, o)
	for range max(*kills/10, 5) {
		cmd := u.Program(u.Command, "mount", "-f")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 100)
		if n, _ := out.Read(line); !strings.HasPrefix(string(line[:n]), "mounted on") {
			t.Fatalf("mount: %s", line[:n])
		}
		u.Shell("echo x > " + u.Path("x"))
		u.Must("unmount")
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	r := a.end(o)
	r.wantNone(t, true)
	u.NothingLeft()
}

// The same attacks get at a toy that hands its descriptor on by inheritance.
func TestAttacksReachAToy(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	if why := hidden(); why != "" {
		t.Skipf("NOT RUN: %s, so that the attacks cannot be seen to work here", why)
	}
	program := as(u, toyKeeper)
	for _, traced := range []bool{false, true} {
		toy := u.Program(program)
		if err := toy.Start(); err != nil {
			t.Fatal(err)
		}
		o := order{Below: toy.Process.Pid, Kill: toy.Process.Pid, Kills: 20, Trace: traced}
		a := begin(t, u, o)
		r := a.end(o)
		toy.Process.Kill()
		toy.Wait()
		r.print(t)
		wanted := ways
		if traced {
			wanted = tracing
		}
		for _, w := range wanted {
			if r.Reached[w.name] == 0 && w.name != "PTRACE_ATTACH" { // SEIZE comes first
				t.Errorf("%s got at none of %d processes: it would not have seen anything anywhere", w.name, r.Targets)
			}
		}
	}
}

// Installed so that its user can read it, as by go install, the worker can be
// got at until its first line has run. It has nothing by then, but what was
// opened stays open. This measures how often: README and status call it weaker.
func TestWeakerInstallIsWeaker(t *testing.T) {
	u := installed.New(t, command(t), installed.Private)
	if why := hidden(); why != "" {
		t.Skipf("NOT RUN: %s", why)
	}
	u.Must("mount")
	u.Shell("echo still here > " + u.Path("x"))
	s := u.Status()
	o := order{Below: s.Mount.PID, Self: true, Kill: s.Mount.PID, Kills: min(*kills, 100), File: u.Path("x")}
	r := begin(t, u, o).end(o)
	r.print(t)
	if r.Reached["/proc/PID/mem"] == 0 {
		t.Error("no worker was reached: if that stays so, status need not call this install weaker")
	}
	for _, p := range s.Protections {
		if p.Name == "binary_unreadable" && p.Active {
			t.Errorf("status calls it as good: %+v", p)
		}
	}
	u.Must("unmount")
	u.NothingLeft()
}
