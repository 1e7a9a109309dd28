package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const runUser = "/run/user"

func runtimeDir(uid int) string { return filepath.Join(runUser, strconv.Itoa(uid)) }

// makeRuntime makes /run/user/UID where nobody else does, in a directory that
// only root can change: nothing there can be a trap.
func makeRuntime(uid, gid int) (made bool, err error) {
	if err := os.Mkdir(runUser, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return false, err
	}
	parent, err := openOwned(runUser)
	if err != nil {
		return false, err
	}
	defer parent.Close()
	name := strconv.Itoa(uid)
	err = unix.Mkdirat(int(parent.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("make %s: %w", runtimeDir(uid), err)
	}
	made = err == nil
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return made, fmt.Errorf("%s: %w", runtimeDir(uid), err)
	}
	defer unix.Close(fd)
	if made {
		return made, errors.Join(unix.Fchown(fd, uid, gid), unix.Fchmod(fd, 0o700))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return made, err
	}
	if int(st.Uid) != uid || st.Mode&0o777 != 0o700 {
		return made, fmt.Errorf("%s is of uid %d with mode %04o: it must be the user's, 0700", runtimeDir(uid), st.Uid, st.Mode&0o7777)
	}
	return made, nil
}

// removeRuntime waits in the background until nothing is mounted in a runtime
// directory that was made here, and removes it then, unless its user is back.
func removeRuntime(uid int) error {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer table.Close()
	for {
		done := false
		err := withRecord(uid, func(r *record) error {
			if len(r.Leaders) > 0 || !r.Made {
				done = true
				return nil
			}
			if mounted, err := mountedIn(runtimeDir(uid)); err != nil || mounted {
				return err
			}
			done, r.Made = true, false
			return removeNow(uid)
		})
		if done || err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		// What a killed keeper leaves goes by itself no more.
		if a, err := byUID(uid); err == nil {
			a.tokenfs("unmount", "--dead")
		}
		// The table is ready with POLLPRI when it has changed, see poll(2).
		unix.Poll([]unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}}, int((10 * time.Second).Milliseconds()))
	}
}

func byUID(uid int) (account, error) { return lookUp(strconv.Itoa(uid)) }

func mountedIn(dir string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			return true, nil
		}
	}
	return false, nil
}

// removeNow has the user empty the directory: whatever links are in it, they
// lead to nothing that the user could not remove.
func removeNow(uid int) error {
	a, err := byUID(uid)
	if err != nil {
		return err
	}
	attr, err := a.credentials()
	if err != nil {
		return err
	}
	empty := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"tokenfs-pam", "empty", strconv.Itoa(uid)}, SysProcAttr: attr}
	if err := empty.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return err
		}
	}
	parent, err := openOwned(runUser)
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Unlinkat(int(parent.Fd()), strconv.Itoa(uid), unix.AT_REMOVEDIR)
}

// emptyRuntime runs as the user.
func emptyRuntime(uid int) error {
	if os.Getuid() == 0 && uid != 0 {
		return errors.New("internal error: to be run as the user")
	}
	names, err := os.ReadDir(runtimeDir(uid))
	for _, n := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(runtimeDir(uid), n.Name())))
	}
	return err
}
