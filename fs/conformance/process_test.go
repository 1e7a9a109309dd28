package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// client is the part of a client process's arguments that all have.
type client struct {
	Dir    string
	Rounds int
	N      int // which of them this is
}

// hearClients runs n processes of a role, lets them go at the same moment, and returns
// the error of each and what it said.
func hearClients(t testing.TB, role string, dir string, n, rounds int) (errs []error, said [][]byte) {
	t.Helper()
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	type process struct {
		cmd    *exec.Cmd
		stderr bytes.Buffer
		stdout *bufio.Reader
	}
	procs := make([]*process, n)
	for i := range procs {
		p := &process{cmd: roleCommand(t, role, client{Dir: dir, Rounds: rounds, N: i})}
		p.cmd.Stdin, p.cmd.Stderr = gate, &p.stderr
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.stdout = bufio.NewReader(out)
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.cmd.Process.Kill() })
		procs[i] = p
	}
	gate.Close()
	for i, p := range procs {
		if line, err := p.stdout.ReadString('\n'); line != "ready\n" {
			t.Fatalf("%s %d does not get ready: %q %v %s", role, i, line, err, p.stderr.String())
		}
	}
	open.Close()
	watchdog := time.AfterFunc(2*time.Minute, func() {
		for _, p := range procs {
			p.cmd.Process.Kill()
		}
	})
	defer watchdog.Stop()
	errs, said = make([]error, n), make([][]byte, n)
	for i, p := range procs {
		said[i], _ = io.ReadAll(p.stdout)
		if err := p.cmd.Wait(); err != nil {
			errs[i] = fmt.Errorf("%v: %s", err, strings.TrimSpace(p.stderr.String()))
		}
	}
	return errs, said
}

// waitForStart is the other end of hearClients.
func waitForStart() {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// mustAll fails the test for every client that failed.
func mustAll(t testing.TB, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
}
