package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is run as a user is the user's: it may be stopped, traced, or kept in the
// kernel where no signal ends it. So it gets nothing of root's, neither a terminal
// nor a descriptor but a pipe's end, and nobody waits for it longer than he said.

const (
	mountLimit = 2 * time.Second
	killLimit  = 100 * time.Millisecond
	mostSaid   = 4 << 10
)

// errStays is the end of waiting for what does not even end when it is killed.
var errStays = errors.New("it does not end")

// as makes a command the user's.
func (a account) as(groups []uint32, path string, args ...string) *exec.Cmd {
	name := filepath.Base(path)
	if path == selfExe {
		name = program
	}
	return &exec.Cmd{
		Path: path,
		Args: append([]string{name}, args...),
		Dir:  "/",
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name,
			"XDG_RUNTIME_DIR=" + runtimeDir(a.uid)},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true,
			Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: groups}},
	}
}

// tokenfs runs it as the user.
func (a account) tokenfs(groups []uint32, args ...string) (said string, err error) {
	path, err := findTokenfs()
	if err != nil {
		return "", err
	}
	said, err = within(mountLimit, a.as(groups, path, args...))
	return strings.TrimPrefix(strings.TrimSpace(said), "tokenfs: "), err
}

// within runs a command for a limited time, and returns the beginning of what it
// says.
func within(limit time.Duration, cmd *exec.Cmd) (string, error) {
	var said beginning
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = killLimit // for what it leaves behind with the pipe
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return string(said.kept), err
	case <-time.After(limit):
	}
	cmd.Process.Kill()
	select {
	case <-ended:
		return string(said.kept), fmt.Errorf("killed after %v", limit)
	case <-time.After(2 * killLimit):
		return "", fmt.Errorf("killed after %v: %w", limit, errStays)
	}
}

// A beginning keeps so much of what is written to it, and no more.
type beginning struct{ kept []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), mostSaid-len(b.kept))]...)
	return len(p), nil
}

// findTokenfs looks beside this program's own directory first.
func findTokenfs() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, path := range []string{filepath.Join(filepath.Dir(self), "../bin/tokenfs"), "/usr/bin/tokenfs", "/usr/local/bin/tokenfs"} {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Uid == 0 && st.Mode&0o022 == 0 {
			return path, nil
		}
	}
	return "", errors.New("there is no tokenfs of root's in /usr/bin or /usr/local/bin")
}
