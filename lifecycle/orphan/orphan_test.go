//go:build amd64 || arm64

package orphan

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A test starts a parent, which starts a child; both are this program.
const roleVar = "_TOKENFS_ORPHAN"

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	switch role, state, _ := strings.Cut(os.Getenv(roleVar), " "); role {
	case "parent":
		beParent(state)
	case "child":
		beChild(state)
	}
	os.Exit(m.Run())
}

const lives = 500 * time.Millisecond

func TestSurvive(t *testing.T) {
	for state, says := range map[string]string{"well": "alone\n", "stuck": "", "stopped": "alone\n"} {
		t.Run(state, func(t *testing.T) {
			parent := exec.Command("/proc/self/exe")
			parent.Env = append(os.Environ(), roleVar+"=parent "+state, "GODEBUG=asyncpreemptoff=1")
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe() // the child's, too
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			defer parent.Process.Kill()
			said := bufio.NewReader(out)
			line, _ := said.ReadString('\n')
			var child int
			if _, err := fmt.Sscanf(line, "child %d", &child); err != nil {
				t.Fatalf("the child said %q", line)
			}
			pidfd, err := unix.PidfdOpen(child, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			defer unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
			if state == "stopped" {
				unix.Kill(child, unix.SIGSTOP)
			}
			parent.Process.Kill()
			killed := time.Now()
			if _, err := said.Peek(1); says != "" && err != nil {
				t.Errorf("the child ended with its parent: %v", err)
			}
			limit := 20 * lives // on a busy machine
			poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
			for {
				n, err := unix.Poll(poll, int(limit.Milliseconds()))
				if err == unix.EINTR {
					continue
				}
				if n != 1 {
					t.Fatalf("the child lives %v after its parent", limit)
				}
				break
			}
			if took := time.Since(killed); took < lives {
				t.Errorf("the child ended after %v", took)
			}
			if rest, _ := io.ReadAll(said); string(rest) != says {
				t.Errorf("the child said %q, not %q", rest, says)
			}
		})
	}
}

func beParent(state string) {
	alive, _, err := os.Pipe() // ends with this process
	if err != nil {
		panic(err)
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), roleVar+"=child "+state)
	child.Stdin, child.Stdout, child.Stderr = alive, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := child.Start(); err != nil {
		panic(err)
	}
	unix.Pause()
}

func beChild(state string) {
	event := struct { // struct sigevent
		value          uint64
		signal, notify int32
		_              [48]byte
	}{signal: int32(unix.SIGKILL)}
	var timer int32
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer))); errno != 0 {
		panic(errno)
	}
	if err := Survive(timer, lives); err != nil {
		panic(err)
	}
	fmt.Println("child", os.Getpid())
	if state == "stuck" { // as bad as it gets: nothing is scheduled any more
		go func() {
			//lint:ignore SA5002 it is to spin
			for {
			}
		}()
		runtime.GC()
	}
	io.Copy(io.Discard, os.Stdin)
	fmt.Println("alone")
	unix.Pause()
}
