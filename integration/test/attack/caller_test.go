package attack

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tokenfs/integration/test/installed"
	"tokenfs/lifecycle/process"
)

// A keeper in the foreground, as in a unit, takes its caller's place. What the
// caller had in its environment and left open goes no further.
func TestCallerLeavesNothingToTheKeeper(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	open := filepath.Join(u.Top, "left open")
	file, err := os.Create(open)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := u.Program(u.Command, "mount", "-f")
	cmd.Env = append(cmd.Env, "AZURE_CLIENT_SECRET=a-secret", "GODEBUG=cpu.sse41=off,fips140=only,gctrace=1", "GOTRACEBACK=crash",
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "LD_PRELOAD=/nowhere.so", "TOKENFS_SIZE=2M")
	cmd.Stdin = file
	cmd.ExtraFiles = []*os.File{file, nil, nil, nil, file}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		cmd.Wait()
		t.Fatalf("it did not mount: %q: %s", line, &said)
	}
	s := u.Status()
	if s.Content.Quota != 2<<20 {
		t.Errorf("a setting of the caller's did not reach it: the quota is %d", s.Content.Quota)
	}
	if p := mountwide(s, "aes_instructions"); !p.Active && hasAES(t) {
		t.Errorf("GODEBUG decides how it encrypts: %+v", p)
	}
	for role, pid := range map[string]int{"keeper": s.Mount.PID, "worker": s.Worker.PID} {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			t.Fatal(err)
		}
		for v := range strings.SplitSeq(strings.TrimSuffix(string(env), "\x00"), "\x00") {
			name, value, _ := strings.Cut(v, "=")
			switch name {
			case "HOME", "XDG_RUNTIME_DIR", "GORACE", "GOCOVERDIR", "_TOKENFS_WORKER":
			case "GODEBUG":
				if value != process.RuntimeSettings {
					t.Errorf("the %s has %s", role, v)
				}
			default:
				t.Errorf("the %s has the variable %s of its caller's", role, name)
			}
		}
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(fds) < 5 {
			t.Fatalf("%q, %v", fds, err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == open {
				t.Errorf("the %s has %s, which its caller left open", role, fd)
			}
		}
	}
	u.Must("unmount")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &said)
	}
	u.NothingLeft()
}

func hasAES(t *testing.T) bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(info), " aes ")
}
