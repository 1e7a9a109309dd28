package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// helperTimeout is generous: fusermount3 does a few system calls.
const helperTimeout = 10 * time.Second

// fusermount finds the setuid helper through which users mount. A PATH as
// minimal as cron's must do.
func fusermount() (string, error) {
	for _, name := range []string{"fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", faultf(Unsupported, "there is no fusermount3, without which only root can mount: install the package fuse3")
}

// mountAsUser lets fusermount3 mount and takes the descriptor that it opened.
// The helper is told "." and started in the directory that was checked, so
// that it, too, never looks at the path.
func mountAsUser(dir *os.File, o mountOptions) (int, error) {
	helper, err := fusermount()
	if err != nil {
		return -1, err
	}
	if err := checkDevice(); err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket pair for fusermount3: %w", err)
	}
	here, there := os.NewFile(uintptr(pair[0]), "fusermount3"), os.NewFile(uintptr(pair[1]), "fusermount3")
	defer here.Close()
	defer there.Close()
	options := append([]string{"fsname=tokenfs", "subtype=tokenfs", "default_permissions", "nosuid", "nodev", maxRead}, o.names...)
	if err := runHelper(helper, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), there, "-o", strings.Join(options, ","), "--", "."); err != nil {
		return -1, err
	}
	fd, err := receive(here)
	if err != nil {
		return -1, fmt.Errorf("fusermount3 mounted and passed no descriptor: %w: is it the package fuse3's own?", err)
	}
	return fd, nil
}

func unmountAsUser(path string) error {
	helper, err := fusermount()
	if err != nil {
		return err
	}
	return runHelper(helper, "/", nil, "-u", "-z", "--", path)
}

// runHelper runs fusermount3 and makes what it says on failure its error.
func runHelper(helper, dir string, comm *os.File, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, helper, args...)
	cmd.Dir = dir
	cmd.Stderr = &said
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	if comm != nil {
		cmd.ExtraFiles = []*os.File{comm}
		cmd.Env = append(cmd.Env, "_FUSE_COMMFD=3")
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	why := strings.TrimPrefix(strings.TrimSpace(strings.ReplaceAll(said.String(), "\n", " ")), "fusermount3: ")
	if why == "" {
		why = err.Error()
	}
	return faultf(Unsupported, "fusermount3: %s%s", why, helperRemedy(helper, why))
}

// helperRemedy adds what the helper itself does not tell.
func helperRemedy(helper, why string) string {
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && n == 1 {
		return ": no_new_privs is set on this process (a hardened unit?), which makes setuid programs powerless: unset NoNewPrivileges= and what implies it"
	}
	var st unix.Stat_t
	if unix.Stat(helper, &st) == nil && (st.Mode&unix.S_ISUID == 0 || st.Uid != 0) {
		return fmt.Sprintf(": %s is not setuid root, so users cannot mount: reinstall the package fuse3", helper)
	}
	var fs unix.Statfs_t
	if unix.Statfs(helper, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		return fmt.Sprintf(": %s is on a filesystem mounted nosuid, so users cannot mount", helper)
	}
	switch {
	case strings.Contains(why, "user_allow_other"):
		return ": root has to allow that in /etc/fuse.conf"
	case strings.Contains(why, "too many FUSE filesystems"):
		return ": unmount some, or raise mount_max in /etc/fuse.conf"
	case strings.Contains(why, "mount failed: Operation not permitted"):
		return ": mounting is not allowed here (a container?): start it with --cap-add SYS_ADMIN --device /dev/fuse"
	}
	return ""
}

// receive takes the one descriptor that was sent before the helper exited.
func receive(from *os.File) (int, error) {
	c, err := net.FileConn(from)
	if err != nil {
		return -1, err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(time.Second))
	data, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(data, oob)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(errors.New("no descriptor in the message"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errors.New("no descriptor in the message"), err)
	}
	return fds[0], nil
}
