package lifecycle

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/process"
)

const inheritVar = "_TOKENFS_TEST_INHERIT"

// Nothing but what is listed comes from the caller, and a GODEBUG of the caller's
// counts for nothing.
func TestEnvironmentIsOurs(t *testing.T) {
	for name, value := range map[string]string{"AZURE_CLIENT_SECRET": "x", "PATH": "/somewhere", "GODEBUG": "cpu.sse41=off,asyncpreemptoff=0",
		"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere", "HOME": "/home/u", "NOTIFY_SOCKET": "/run/n", process.ReadyVar: "3", "GOTRACEBACK": "crash"} {
		t.Setenv(name, value)
	}
	for _, c := range []struct {
		names []string
		want  []string
	}{
		{process.TestVars, nil},
		{process.DaemonVars, []string{"HOME=/home/u"}},
		{process.UnitVars, []string{"HOME=/home/u", "NOTIFY_SOCKET=/run/n"}},
		{slices.Concat(process.UnitVars, ownVars), []string{"HOME=/home/u", "NOTIFY_SOCKET=/run/n", process.ReadyVar + "=3"}},
	} {
		env := process.Environment(c.names)
		if !isOurs(env) {
			t.Errorf("it is not ours: %q", env)
		}
		for _, v := range append(c.want, "GODEBUG=updatemaxprocs=0,decoratemappings=0,asyncpreemptoff=1") {
			if !slices.Contains(env, v) {
				t.Errorf("no %s in %q", v, env)
			}
		}
		for _, v := range env {
			name, _, _ := strings.Cut(v, "=")
			if !slices.Contains(c.want, v) && !slices.Contains([]string{"GODEBUG", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "GOCOVERDIR", "GORACE"}, name) {
				t.Errorf("%s comes from the caller: %q", name, env)
			}
		}
	}
	if HasOwnEnvironment() {
		t.Error("that of this process is taken for ours")
	}
}

func TestWhatIsNotOurs(t *testing.T) {
	ours := []string{"GODEBUG=" + process.RuntimeSettings, "HOME=/home/u"}
	if !isOurs(ours) {
		t.Fatalf("%q is not ours", ours)
	}
	for _, env := range [][]string{
		nil,
		{"HOME=/home/u"},
		{"GODEBUG=asyncpreemptoff=1"},
		{"GODEBUG=" + process.RuntimeSettings + ",cpu.sse41=off"},
		{"GODEBUG=fips140=only," + process.RuntimeSettings},
		append(slices.Clone(ours), "PATH=/bin"),
		append(slices.Clone(ours), "GODEBUG=cpu.sse41=off"),
		append(slices.Clone(ours), "HOME=/home/v"),
		append(slices.Clone(ours), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere"),
		append(slices.Clone(ours), "GOTRACEBACK=crash"),
		append(slices.Clone(ours), "no variable"),
		append(slices.Clone(ours), workerVar+"=x"),
	} {
		if isOurs(env) {
			t.Errorf("%q is taken for ours", env)
		}
	}
}

// What the caller left open is closed, also what it was told to keep open in an
// exec; what was passed is there, and does not go on to children.
func TestInheritedFilesAreClosed(t *testing.T) {
	if os.Getenv(inheritVar) != "" {
		beHeir()
	}
	secret, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestInheritedFilesAreClosed$")
	cmd.Env = append(os.Environ(), inheritVar+"=1", process.ReadyVar+"=3")
	cmd.Stdin = secret
	cmd.ExtraFiles = []*os.File{secret, secret, nil, secret}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.HasSuffix(out, []byte("heir\n")) {
		t.Errorf("%v: %s", err, out)
	}
}

func beHeir() {
	err := closeInherited()
	for fd, want := range map[int]error{3: nil, 4: unix.EBADF, 6: unix.EBADF} {
		flags, got := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if !errors.Is(got, want) {
			err = errors.Join(err, got, errors.New("a descriptor is not as it should be"))
		}
		if want == nil && flags&unix.FD_CLOEXEC == 0 {
			err = errors.Join(err, errors.New("what was passed goes on to children"))
		}
	}
	var input, null syscall.Stat_t
	syscall.Fstat(0, &input)
	syscall.Stat(os.DevNull, &null)
	if input.Rdev != null.Rdev {
		err = errors.Join(err, errors.New("standard input is still the caller's"))
	}
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("heir\n")
	os.Exit(0)
}
