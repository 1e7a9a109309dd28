package lifecycle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A worker that somebody kills closes its connections before it has ended. Who
// sees that must not take its end for a deed of the keeper's.
func TestGivenUpWhileItEnds(t *testing.T) {
	for _, c := range []struct {
		script string
		want   string
		killed bool
	}{
		{"read x; kill $$", "terminated", true},
		{"read x; exit 3", "exit status 3", false},
	} {
		cmd := exec.Command("sh", "-c", c.script)
		worker := &child{died: make(chan struct{}), logf: t.Logf}
		cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &worker.Fd}
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		worker.Pid = cmd.Process.Pid
		go worker.await()
		// giveUp has looked at the process long before this.
		time.AfterFunc(answerLimit/10, func() { stdin.Close() })
		err = worker.giveUp(io.EOF)
		if !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) || errors.As(err, new(killed)) != c.killed {
			t.Errorf("%s: %v", c.script, err)
		}
		cmd.Process.Release()
	}
}

// A stopped worker answers nobody, so it is ended at once, which is not the
// keeper's doing.
func TestStoppedWorkerIsEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	worker := &child{died: make(chan struct{}), logf: t.Logf}
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &worker.Fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	worker.Pid = cmd.Process.Pid
	go worker.await()
	cmd.Process.Signal(syscall.SIGSTOP)
	<-worker.died
	if err := worker.reap(); !errors.As(err, new(killed)) {
		t.Error(err)
	}
	cmd.Process.Release()
}

// A process that a signal ends prints its registers. None of them gets into the log.
func TestRegistersAreNotLogged(t *testing.T) {
	if os.Getenv("TOKENFS_TEST_SEGV") != "" {
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		time.Sleep(time.Minute)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRegistersAreNotLogged$")
	cmd.Env = append(os.Environ(), "TOKENFS_TEST_SEGV=1")
	printed, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("the process goes on")
	}
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(printed), "\n")
	says.WriteString(strings.Join(lines[len(lines)-30:], "")) // few lines are logged, and these come last
	says.Close()
	var logged []string
	(&child{logf: func(format string, args ...any) { logged = append(logged, fmt.Sprintf(format, args...)) }}).relay(said)
	registers := regexp.MustCompile(`(?m)^(worker: )?\w+ +0x[0-9a-f]+$`)
	if n := len(registers.FindAllString(string(printed), -1)); n < 16 {
		t.Errorf("the process has printed %d registers: %s", n, printed)
	}
	if found := registers.FindAllString(strings.Join(logged, "\n"), -1); len(found) > 0 || len(logged) < 3 {
		t.Errorf("%d lines are logged, registers among them: %q", len(logged), found)
	}
}
