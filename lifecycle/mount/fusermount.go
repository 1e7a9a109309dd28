package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/process"
)

// helperTimeout is generous: fusermount3 does a few system calls.
const helperTimeout = 10 * time.Second

// HelperPlaces are where distributions put fusermount3, the setuid helper through
// which users mount. PATH is not asked: what is found there gets /dev/fuse, and so
// all that apps write. The last three are NixOS's and Guix's.
var HelperPlaces = []string{"/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3",
	"/run/wrappers/bin/fusermount3", "/run/privileged/bin/fusermount3", "/run/setuid-programs/fusermount3"}

// fusermount opens the helper, which is then executed through the descriptor.
func fusermount() (*os.File, error) {
	var unfit error
	for _, path := range HelperPlaces {
		f, err := openResolved(path)
		if err == nil {
			if err = checkSetuid(f); err == nil {
				return f, nil
			}
			f.Close()
		}
		if unfit == nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			unfit = err
		}
	}
	if unfit != nil {
		return nil, fault.Errorf(fault.Unsupported, "fusermount3: %w, so users cannot mount: reinstall the package fuse3", unfit)
	}
	return nil, fault.Errorf(fault.Unsupported, "there is no fusermount3, without which only root can mount: install the package fuse3")
}

// checkSetuid is about a file that is root's alone.
func checkSetuid(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_ISUID == 0 || st.Mode&0o001 == 0 {
		return fmt.Errorf("%s is not setuid root (mode %04o)", f.Name(), st.Mode&0o7777)
	}
	return nil
}

// Helper says what mounts and unmounts for this process, and whether nobody
// but root could put something else in its place.
func Helper() (what string, safe bool) {
	if process.MountsItself() {
		return "it mounts and unmounts by itself", true
	}
	f, err := fusermount()
	if err != nil {
		return err.Error(), false
	}
	defer f.Close()
	return f.Name() + ", which root alone can replace, gets /dev/fuse while it mounts", true
}

// mountAsUser lets fusermount3 mount and takes the descriptor that it opened.
// The helper is told "." and started in the directory that was checked, so
// that it, too, never looks at the path.
func mountAsUser(dir *os.File, o Options) (int, error) {
	helper, err := fusermount()
	if err != nil {
		return -1, err
	}
	defer helper.Close()
	if err := CheckDevice(); err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket pair for fusermount3: %w", err)
	}
	here, there := os.NewFile(uintptr(pair[0]), "fusermount3"), os.NewFile(uintptr(pair[1]), "fusermount3")
	defer here.Close()
	defer there.Close()
	options := append([]string{"fsname=tokenfs", "subtype=tokenfs", "default_permissions", "nosuid", "nodev", maxRead}, o.Names...)
	if err := runHelper(helper, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), there, "-o", strings.Join(options, ","), "--", "."); err != nil {
		return -1, err
	}
	fd, err := receive(here)
	if err != nil {
		return -1, fmt.Errorf("fusermount3 mounted and passed no descriptor: %w: is it the package fuse3's own?", err)
	}
	if err := checkIsFuse(fd); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fusermount3 passed something else than /dev/fuse: %w: is it the package fuse3's own?", err)
	}
	return fd, nil
}

// checkIsFuse says whether a descriptor is of the character device /dev/fuse.
func checkIsFuse(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(10, 229) {
		return fmt.Errorf("a file of mode %07o, device %d:%d", st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return nil
}

func unmountAsUser(path string) error {
	helper, err := fusermount()
	if err != nil {
		return err
	}
	defer helper.Close()
	return runHelper(helper, "/", nil, "-u", "-z", "--", path)
}

// runHelper runs fusermount3 and makes what it says on failure its error.
func runHelper(helper *os.File, dir string, comm *os.File, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
	defer cancel()
	var said bytes.Buffer
	// By descriptor: the very file that was looked at.
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", helper.Fd()), args...)
	cmd.Args[0] = "fusermount3"
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
	return fault.Errorf(fault.Unsupported, "fusermount3: %s%s", why, helperRemedy(why))
}

// helperRemedy adds what the helper itself does not tell.
func helperRemedy(why string) string {
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && n == 1 {
		return ": no_new_privs is set on this process (a hardened unit?), which makes setuid programs powerless: unset NoNewPrivileges= and what implies it"
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
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	for _, m := range messages {
		list, rightsErr := unix.ParseUnixRights(&m)
		fds, err = append(fds, list...), errors.Join(err, rightsErr)
	}
	if err != nil || len(fds) != 1 {
		process.CloseAll(fds)
		return -1, errors.Join(errors.New("no descriptor in the message"), err)
	}
	return fds[0], nil
}
