package process

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const tracedVar = "TOKENFS_TEST_TRACED"

// Any thread will do to trace a process by.
func TestEveryThreadIsLookedAt(t *testing.T) {
	if os.Getenv(tracedVar) != "" {
		beTraced()
	}
	for _, name := range []string{"no thread", "the first thread", "another thread"} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestEveryThreadIsLookedAt$")
			// A thread that is traced stops for each signal, also for the runtime's own.
			cmd.Env = append(os.Environ(), tracedVar+"=1", "GODEBUG=asyncpreemptoff=1")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			tid := 0
			defer func() {
				cmd.Process.Kill()
				if tid != 0 {
					unix.Wait4(tid, nil, unix.WALL, nil)
				}
				cmd.Wait()
			}()
			lines := bufio.NewScanner(out)
			lines.Scan()
			tid, err = strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			wanted := fmt.Sprintf("process %d (", unix.Gettid())
			switch name {
			case "no thread":
				wanted, tid = "", 0
			case "the first thread":
				tid = cmd.Process.Pid
			}
			if tid != 0 {
				if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, 0, 0, 0); errno != 0 {
					t.Skipf("NOT RUN: nothing can be traced here: %v", errno)
				}
			}
			in.Write([]byte("\n"))
			lines.Scan()
			if said := lines.Text(); !strings.HasPrefix(said, wanted) || wanted == "" && said != "" {
				t.Errorf("it says %q, not %q", said, wanted)
			}
		})
	}
}

// beTraced tells its parent a thread that is not the first, waits for it, and says
// whether it is traced.
func beTraced() {
	tid := make(chan int)
	go func() {
		runtime.LockOSThread() // and not to the first one: main has that
		tid <- unix.Gettid()
		select {}
	}()
	fmt.Println(<-tid)
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := CheckUnwatched(); err != nil {
		fmt.Println(err)
	} else {
		fmt.Println()
	}
	os.Exit(0)
}
