package attack

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
	"tokenfs/lifecycle"
)

const tracerName = "tracer"

// tracerMain starts its arguments as a program that it traces from the first
// instruction, as strace does, and ends with the same status.
func tracerMain() {
	runtime.LockOSThread()
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	for {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WALL, nil); err != nil {
			panic(err)
		}
		if ws.Exited() {
			os.Exit(ws.ExitStatus())
		}
		sig := 0
		if s := ws.StopSignal(); s != unix.SIGTRAP {
			sig = int(s)
		}
		unix.PtraceCont(cmd.Process.Pid, sig)
	}
}

// Whoever traces a keeper from its first instruction can have it make system
// calls, and read its keys by that. A keeper that sees it serves nobody.
func TestTracedKeeperServesNobody(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	cmd := u.Program(as(u, tracerName), u.Command, "mount", "-f")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer limit.Stop()
	line := make([]byte, 100)
	if n, _ := out.Read(line); n > 0 {
		t.Errorf("it serves while it is traced: %s", line[:n])
		t.Logf("and says of itself: %+v", protection(u.Status(), "keeper", "ptrace_off"))
		u.Must("unmount")
	}
	err = cmd.Wait()
	if wanted := fmt.Sprintf("(%q) traces this one", tracerName); err == nil || !strings.Contains(said.String(), wanted) {
		t.Errorf("%v: it does not say %s: %s", err, wanted, &said)
	}
	u.NothingLeft()
}

// Root can trace a keeper at any time. Status tells.
func TestStatusTellsOfATracer(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	s := u.Status()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for role, pid := range map[string]int{"keeper": s.Mount.PID, "worker": s.Worker.PID} {
		if p := protection(u.Status(), role, "ptrace_off"); !p.Active {
			t.Errorf("the %s, which nobody traces: %+v", role, p)
		}
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno != 0 {
			t.Skipf("NOT RUN: root cannot trace here: %v", errno)
		}
		if p := protection(u.Status(), role, "ptrace_off"); p.Active || !strings.Contains(p.Detail, fmt.Sprintf("process %d (", unix.Gettid())) {
			t.Errorf("the %s, which this test traces: %+v", role, p)
		}
		// Only a process that has stopped can be let go.
		unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uintptr(pid), 0, 0, 0, 0)
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
			t.Fatal(err)
		}
		if err := unix.PtraceDetach(pid); err != nil {
			t.Fatal(err)
		}
	}
	u.Must("unmount")
	u.NothingLeft()
}

func protection(s lifecycle.Status, role, name string) (found lifecycle.Protection) {
	for _, process := range s.Processes {
		for _, p := range process.Protections {
			if process.Role == role && p.Name == name {
				return p
			}
		}
	}
	return found
}
