package attack

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

const robberName = "robber"

// robberMain takes /dev/fuse from whichever process of tokenfs lets it, until its
// standard input ends. It says how many processes it looked at, and how many times
// it had the device.
func robberMain() {
	over := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(over)
	}()
	looked, had := map[int]bool{}, 0
	for {
		select {
		case <-over:
			fmt.Println(len(looked), had)
			os.Exit(0)
		default:
		}
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			if !isTokenfs(pid) {
				continue
			}
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			looked[pid] = true
			for fd := range firstFDs {
				got, err := unix.PidfdGetfd(pidfd, fd, 0)
				if err == unix.EPERM {
					break
				} else if err != nil {
					continue
				}
				if to, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", got)); to == "/dev/fuse" {
					had++
				}
				unix.Close(got)
			}
			unix.Close(pidfd)
		}
	}
}

// The launcher of tokenfs run is in a user namespace that its user owns, and so can
// be looked into where the program is one that the user can read. It has nothing.
func TestLauncherHasNoDevice(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"readable": installed.Private, "packaged": installed.Packaged} {
		t.Run(name, func(t *testing.T) {
			u := installed.New(t, command(t), mode)
			robber := u.Program(as(u, robberName))
			in, err := robber.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := robber.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := robber.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { robber.Process.Kill(); robber.Wait() }()
			const runs = 10
			for range runs {
				if said := u.Must("run", "--private=require", "sh", "-c", "echo x > $XDG_RUNTIME_DIR/tokenfs/x; cat $XDG_RUNTIME_DIR/tokenfs/x"); said != "x\n" {
					t.Fatal(said)
				}
			}
			in.Write([]byte("\n"))
			said, err := bufio.NewReader(out).ReadString('\n')
			var looked, had int
			if _, scan := fmt.Sscan(strings.TrimSpace(said), &looked, &had); err != nil || scan != nil {
				t.Fatalf("%q, %v, %v", said, err, scan)
			}
			t.Logf("%d processes in %d runs looked at, /dev/fuse had %d times", looked, runs, had)
			if looked < 3*runs || had > 0 {
				t.Error("the device is to be had, or was not looked for")
			}
			u.NothingLeft()
		})
	}
}
