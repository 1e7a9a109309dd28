package needs

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the process from which the device is taken away.
func TestMain(m *testing.M) {
	if os.Getenv("NEEDS_WITHOUT") != "" {
		if err := unix.Mount("/dev/null", "/dev/fuse", "", unix.MS_BIND, ""); err != nil {
			panic(err)
		}
		os.Stdout.WriteString(NoFUSE())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestDeviceThatIsAnother(t *testing.T) {
	Root(t, "take /dev/fuse away")
	if why := noDevice(); why != "" {
		t.Skip("NOT RUN: " + why)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "NEEDS_WITHOUT=yes")
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "not the fuse device") {
		t.Errorf("%v: %q", err, out)
	}
}

func TestProgram(t *testing.T) {
	var skipped bool
	t.Run("missing", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Program(t, "no-such-program", "nothing")
	})
	if !skipped {
		t.Error("a test without its program went on")
	}
}
