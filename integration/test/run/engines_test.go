package run

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	engines = flag.Bool("engines", false, "also under Docker and Podman, on a system built for them")
	cache   = flag.String("cache", "../../../build/login", "where that system is kept")
)

// startEngines has Docker's daemon run, and returns how to run a script beside it.
func startEngines(t *testing.T) func(script string) (said string, err error) {
	t.Helper()
	if !*engines {
		t.Skip("NOT RUN: wants a system with Docker and Podman to be built: sudo make test-login")
	}
	dir, err := filepath.Abs(*cache)
	if err != nil {
		t.Fatal(err)
	}
	system := exec.Command("../login/system.sh", dir, "engines")
	system.Stderr = os.Stderr
	if err := system.Run(); err != nil {
		t.Fatalf("no system with Docker: %v", err)
	}
	var console bytes.Buffer
	name := fmt.Sprintf("tokenfs-engines-%d", os.Getpid())
	host := exec.Command("./engines.sh", dir+"/engines", command(t), t.TempDir(), name)
	ready, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	host.Stderr = &console
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	first := func() (pid int) {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", host.Process.Pid))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(children)))
		return pid
	}
	t.Cleanup(func() {
		if pid := first(); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL) // and with it all that is in there
		} else {
			host.Process.Kill()
		}
		host.Wait() // until nothing is left that a cgroup could be of
		exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
			`mount -t cgroup2 none /sys/fs/cgroup && find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} \;`, "sh", name).Run()
	})
	ready.(*os.File).SetReadDeadline(time.Now().Add(2 * time.Minute))
	var said []byte
	for buf := make([]byte, 4096); !bytes.HasSuffix(said, []byte("ready\n")); {
		n, err := ready.Read(buf)
		if said = append(said, buf[:n]...); err != nil {
			t.Fatalf("no Docker: %v: %s%s", err, said, &console)
		}
	}
	return func(script string) (string, error) {
		out, err := exec.Command("nsenter", "--target", strconv.Itoa(first()), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
			"env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "timeout", "60", "sh", "-c", script).CombinedOutput()
		return string(out), err
	}
}

// What containers of Docker's and Podman's own, with their default profiles and
// capabilities, need for tokenfs run, and what it says of what they lack.
func TestEngines(t *testing.T) {
	run := startEngines(t)
	const (
		docker = "docker run --rm --network=none "
		// No cgroup of its own: that would want another manager in here.
		podman = "podman --storage-driver=vfs --cgroup-manager=cgroupfs --events-backend=file run --rm --network=none --cgroups=disabled "
		fuse   = "--device /dev/fuse "
		admin  = "--cap-add SYS_ADMIN "
		open   = "--security-opt seccomp=unconfined "
		user   = "--user 1000:1000 "

		noDevice = "there is no /dev/fuse, so no filesystem can be served: modprobe fuse, or give the container --device /dev/fuse"
		refused  = "a namespace of its own is refused here: "
		remedy   = "docker run --cap-add SYS_ADMIN, or --security-opt seccomp=unconfined, allows it"
		noMount  = "start it with --cap-add SYS_ADMIN --device /dev/fuse"
	)
	for _, c := range []struct {
		options, mode string
		want          []string // none: it works
	}{
		{docker, "auto", []string{"no namespace of its own", noDevice}},
		{docker + user, "auto", []string{"no namespace of its own", noDevice}},
		{docker + fuse, "auto", []string{"no namespace of its own", remedy, noMount}},
		{docker + fuse + user, "auto", []string{"no namespace of its own", remedy, noMount}},
		{docker + fuse, "require", []string{refused, remedy}},
		{docker + fuse + user, "require", []string{refused, remedy}},
		{docker + fuse + admin, "require", nil},
		{docker + fuse + admin + user, "require", nil},
		{docker + fuse + open, "require", nil},
		{docker + fuse + open + user, "require", nil},
		{podman, "auto", []string{noDevice}},
		{podman + user, "auto", []string{noDevice}},
		{podman + fuse, "require", nil},
		{podman + fuse + user, "require", nil},
	} {
		said, err := run(c.options + "base tokenfs run --private=" + c.mode + " sh -c 'echo token >$XDG_RUNTIME_DIR/tokenfs/x; cat $XDG_RUNTIME_DIR/tokenfs/x; grep Seccomp: /proc/self/status'")
		name := strings.Fields(c.options)[0] + " " + strings.Join(strings.Fields(c.options[strings.Index(c.options, "--rm"):])[2:], " ") + " --private=" + c.mode
		if c.want == nil {
			if err != nil || !strings.HasPrefix(said, "token\n") {
				t.Errorf("%s: %v: %s", name, err, said)
			}
			t.Logf("seen: %s: works, %s", name, strings.Join(strings.Fields(said)[1:], " "))
			continue
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 125 || strings.Contains(said, "token\n") {
			t.Errorf("%s: %v, not 125: %s", name, err, said)
		}
		for _, words := range c.want {
			if !strings.Contains(said, words) {
				t.Errorf("%s: no %q in %s", name, words, said)
			}
		}
		t.Logf("seen: %s: %s", name, strings.TrimSpace(said))
	}
}
