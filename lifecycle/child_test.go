package lifecycle

import (
	"errors"
	"io"
	"os/exec"
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
		cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &worker.fd}
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		worker.pid = cmd.Process.Pid
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
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &worker.fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	worker.pid = cmd.Process.Pid
	go worker.await()
	cmd.Process.Signal(syscall.SIGSTOP)
	<-worker.died
	if err := worker.reap(); !errors.As(err, new(killed)) {
		t.Error(err)
	}
	cmd.Process.Release()
}
