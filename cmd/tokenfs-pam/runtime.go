package main

import (
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

const (
	removeVerb = "remove"
	emptyVerb  = "empty"

	// removeLimit is how long root has a process for a runtime directory. Its user
	// says how long something stays mounted there, by a lease or anything else; what
	// stays for longer leaves the directory to the next last logout.
	removeLimit = 10 * time.Minute
	lookEvery   = 10 * time.Second
	// pause keeps a user who mounts and unmounts all the time from keeping root busy.
	pause = 500 * time.Millisecond
	// emptyLimit leaves time to a login that waits for the record.
	emptyLimit = lockLimit / 2
)

// startRemover starts this program once more, which outlives the logout.
func (a account) startRemover() (pid int, err error) {
	remover := &exec.Cmd{Path: selfExe, Args: []string{program, removeVerb, strconv.Itoa(a.uid), a.name},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if err := remover.Start(); err != nil {
		return 0, err
	}
	return remover.Process.Pid, nil
}

// remove waits until nothing is mounted in a runtime directory that was made here,
// and removes it then, unless its user is back. There is one for each user.
func remove(uid, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), nameLimit)
	defer cancel()
	a, err := lookUp(ctx, name)
	if err != nil {
		return err
	}
	if strconv.Itoa(a.uid) != uid {
		return fmt.Errorf("%q is uid %d, and was %s", name, a.uid, uid)
	}
	groups, err := a.groups(ctx)
	if err != nil {
		return err
	}
	return keepTrying(removeLimit, func() (done bool, err error) {
		err = withRecord(a.uid, func(r *record) (err error) {
			if done = len(r.Leaders) > 0 || !r.Made; !done {
				done, err = a.removeRuntime()
				r.Made = !done
			}
			if done {
				r.Remover = process{}
			}
			return err
		})
		if done || errors.Is(err, errStays) {
			return true, err
		}
		// What a killed keeper leaves goes by itself no more.
		_, err = a.tokenfs(groups, "unmount", "--dead")
		return errors.Is(err, errStays), err
	})
}

// keepTrying calls try once more whenever what is mounted has changed, and now and
// then, until it is done, or for a limited time.
func keepTrying(limit time.Duration, try func() (done bool, err error)) error {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer table.Close()
	for end := time.Now().Add(limit); ; time.Sleep(pause) {
		done, err := try()
		left := time.Until(end)
		if done || left < pause {
			return err
		}
		// The table is ready with POLLPRI when it has changed, see poll(2).
		unix.Poll([]unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}}, int(min(lookEvery, left-pause).Milliseconds()))
	}
}

// removeRuntime removes the directory if it can be.
func (a account) removeRuntime() (removed bool, err error) {
	if mounted, err := mountedIn(runtimeDir(a.uid)); err != nil || mounted {
		return false, err
	}
	// Its user empties it: whatever links are in it, they lead to nothing that the
	// user could not remove.
	if _, err := within(emptyLimit, a.as(nil, selfExe, emptyVerb, strconv.Itoa(a.uid))); errors.Is(err, errStays) {
		return false, err
	}
	parent, err := openOwned(runUser)
	if err != nil {
		return false, err
	}
	defer parent.Close()
	if err := unix.Unlinkat(int(parent.Fd()), strconv.Itoa(a.uid), unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("remove %s: %w", runtimeDir(a.uid), err)
	}
	return true, nil
}

func mountedIn(dir string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			return true, nil
		}
	}
	return false, nil
}

// empty runs as the user.
func empty(uid string) error {
	if uid != strconv.Itoa(os.Getuid()) {
		return errors.New("internal error: to be run as the user")
	}
	dir := filepath.Join(runUser, uid)
	names, err := os.ReadDir(dir)
	for _, n := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, n.Name())))
	}
	return err
}
