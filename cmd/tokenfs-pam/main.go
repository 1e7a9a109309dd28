// Command tokenfs-pam has the filesystem mounted for login sessions on hosts
// without a systemd user manager. pam_exec(8) runs it as root when a session is
// opened and when it is closed; it never fails, and takes three seconds at most.
//
// As root it does no more than keep account of sessions (record.go) and make and
// remove /run/user/UID (runtime.go). All else is done by tokenfs as the user,
// whose keeper follows the sessions' leaders by itself: also those that are
// killed, and so never closed.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/pamservice"
)

const (
	limit      = 3 * time.Second // for everything
	mountLimit = 2 * time.Second
	nameLimit  = 500 * time.Millisecond // for asking who somebody is
)

func main() {
	kind, service, name := os.Getenv("PAM_TYPE"), os.Getenv("PAM_SERVICE"), os.Getenv("PAM_USER")
	// Nothing of what is run from here is to depend on how somebody logs in.
	os.Clearenv()
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	unix.Umask(0o022)
	os.Chdir("/")
	// A process of sshd's would be the last one to be killed where memory runs out.
	os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)

	if err := act(kind, service, name); err != nil {
		// pam_exec shows it to the user, if it is told to.
		fmt.Printf("tokenfs: %v\n", err)
	}
}

func act(kind, service, name string) error {
	if len(os.Args) == 3 {
		uid, err := strconv.Atoi(os.Args[2])
		switch {
		case err != nil:
			return err
		case os.Args[1] == "remove":
			return removeRuntime(uid)
		case os.Args[1] == "empty":
			return emptyRuntime(uid)
		}
	}
	time.AfterFunc(limit, func() { os.Exit(0) })
	if os.Geteuid() != 0 {
		return errors.New("tokenfs-pam is for pam_exec, which runs it as root")
	}
	if !pamservice.OpensLogin(service) {
		return nil
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return nil // the user unit does it
	}
	a, err := lookUp(name)
	if err != nil || !a.wanted() {
		return err
	}
	switch kind {
	case "open_session":
		return a.open(os.Getppid())
	case "close_session":
		return a.close(os.Getppid())
	}
	return nil
}

// An account is a user as in passwd(5).
type account struct {
	name        string
	uid, gid    int
	home, shell string
}

// lookUp asks for a user, who may be known to more than a file.
func lookUp(name string) (a account, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), nameLimit)
	defer cancel()
	line, err := exec.CommandContext(ctx, "getent", "passwd", name).Output()
	if errors.Is(err, exec.ErrNotFound) {
		line, err = inFile("/etc/passwd", name)
	}
	if err != nil {
		return a, fmt.Errorf("who is %q: %w", name, err)
	}
	f := strings.Split(strings.TrimSpace(string(line)), ":")
	if len(f) != 7 {
		return a, fmt.Errorf("who is %q: %d fields in passwd", name, len(f))
	}
	uid, err1 := strconv.ParseUint(f[2], 10, 31)
	gid, err2 := strconv.ParseUint(f[3], 10, 31)
	return account{f[0], int(uid), int(gid), f[5], f[6]}, errors.Join(err1, err2)
}

func inFile(path, name string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), name+":") {
			return lines.Bytes(), nil
		}
	}
	return nil, os.ErrNotExist
}

// wanted are people: no system users, such as a greeter's, and root if root
// says so.
func (a account) wanted() bool {
	switch filepath.Base(a.shell) {
	case "nologin", "false":
		return false
	}
	if a.uid == 0 {
		return rootLogins("/etc/tokenfs/config")
	}
	return a.uid >= 1000 && a.uid != 65534
}

// rootLogins looks at the one setting that is for this program.
func rootLogins(path string) bool {
	config, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(config)) {
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) == "root-logins" {
			return strings.TrimSpace(value) == "on"
		}
	}
	return false
}

// open mounts, or tells the filesystem that is there of one more session.
func (a account) open(leader int) error {
	err := a.account(func(r *record) error {
		made, err := makeRuntime(a.uid, a.gid)
		r.Made = r.Made || made
		return errors.Join(err, r.add(leader))
	})
	if err != nil {
		return err
	}
	said, err := a.tokenfs("mount", fmt.Sprintf("--leader=%d", leader))
	if err != nil {
		return fmt.Errorf("not mounted: %s (%w)", said, err)
	}
	return nil
}

// close leaves the end to the keeper, which notices it. The directory goes when
// the keeper has ended, for which nobody who logs out has to wait.
func (a account) close(leader int) error {
	last := false
	err := a.account(func(r *record) error {
		r.remove(leader)
		last = r.Made && len(r.Leaders) == 0
		return nil
	})
	if err != nil || !last {
		return err
	}
	remover := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"tokenfs-pam", "remove", strconv.Itoa(a.uid)}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	return remover.Start()
}

// tokenfs runs it as the user, with nothing left of root, for a limited time.
func (a account) tokenfs(args ...string) (said string, err error) {
	path, err := findTokenfs()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), mountLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 100 * time.Millisecond
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name,
		"XDG_RUNTIME_DIR=" + runtimeDir(a.uid)}
	if cmd.SysProcAttr, err = a.credentials(); err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "tokenfs: "), err
}

func (a account) credentials() (*syscall.SysProcAttr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), nameLimit)
	defer cancel()
	ids, err := exec.CommandContext(ctx, "id", "-G", a.name).Output()
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", a.name, err)
	}
	c := &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	for text := range strings.FieldsSeq(string(ids)) {
		gid, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("groups of %s: %w", a.name, err)
		}
		c.Groups = append(c.Groups, uint32(gid))
	}
	return &syscall.SysProcAttr{Setsid: true, Credential: c}, nil
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
