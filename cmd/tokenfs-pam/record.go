package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recordDir is root's, and writable by nobody else.
const recordDir = "/run/tokenfs"

// lockLimit is how long another login of the same user may take here.
const lockLimit = time.Second

// A record is what root remembers of a user's login sessions.
type record struct {
	Made    bool      `json:"made"` // /run/user/UID, by us
	Leaders []process `json:"leaders"`
	Remover process   `json:"remover,omitzero"` // of the directory, if one was started
}

// A process is one that may have ended: a pid alone can come again. The leader of
// a session is the process that opened it.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"`
}

// recordLimit is what a record can be read from: thousands of sessions.
const recordLimit = 1 << 20

// withRecord lets do change the user's record, from which sessions that were never
// closed have been removed. Another login of the user waits for it meanwhile.
func withRecord(uid int, do func(*record) error) error {
	f, err := lockRecord(recordDir, uid)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, recordLimit))
	if err != nil {
		return err
	}
	r := parseRecord(text)
	r.Leaders = slices.DeleteFunc(r.Leaders, func(l process) bool { return !l.alive() })
	failed := do(&r)
	if text, err = json.Marshal(r); err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	return errors.Join(failed, err)
}

// parseRecord takes what makes no sense for nothing: a crash, or a boot, in the
// middle of writing it.
func parseRecord(text []byte) (r record) {
	if json.Unmarshal(text, &r) != nil {
		return record{}
	}
	r.Leaders = slices.DeleteFunc(r.Leaders, func(l process) bool { return !l.makesSense() })
	if !r.Remover.makesSense() {
		r.Remover = process{}
	}
	return r
}

func (p process) makesSense() bool {
	_, err := strconv.ParseUint(p.Start, 10, 64)
	return p.PID > 0 && err == nil
}

// lockRecord opens the record of a user, alone. It is never removed: who waits
// for it would have another one then.
func lockRecord(dir string, uid int) (*os.File, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	parent, err := openOwned(dir)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), strconv.Itoa(uid), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record of sessions: %w", err)
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("%s/%d", dir, uid))
	for deadline := time.Now().Add(lockLimit); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("record of sessions: lock: %w", err)
		}
	}
}

// openOwned opens a directory in which only root can change anything.
func openOwned(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		unix.Close(fd)
		return nil, errors.Join(fmt.Errorf("%s can be changed by others than root", path), err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (r *record) add(pid int) error {
	start, err := startOf(pid)
	if err == nil {
		r.remove(pid)
		r.Leaders = append(r.Leaders, process{pid, start})
	}
	return err
}

func (r *record) remove(pid int) {
	r.Leaders = slices.DeleteFunc(r.Leaders, func(l process) bool { return l.PID == pid })
}

func (p process) alive() bool {
	start, err := startOf(p.PID)
	return err == nil && start == p.Start
}

func startOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	return parseStat(string(stat))
}

// parseStat finds when a process started: field 22, see proc_pid_stat(5). A
// zombie has ended.
func parseStat(stat string) (start string, err error) {
	after := stat[strings.LastIndexByte(stat, ')')+1:] // the name can hold anything
	fields := strings.Fields(after)
	if len(fields) < 20 || fields[0] == "Z" {
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}
