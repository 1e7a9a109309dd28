package attack

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A way gets at something of another process: nil if it did, and else what the
// kernel said.
type way struct {
	name string
	try  func(pid, pidfd int) error
}

// firstFDs are enough of them: a worker has less than twenty open.
const firstFDs = 24

var ways = []way{
	{"pidfd_getfd", func(pid, pidfd int) error {
		var err error
		for fd := range firstFDs {
			var got int
			if got, err = unix.PidfdGetfd(pidfd, fd, 0); err == nil {
				unix.Close(got)
				return nil
			}
			if err != unix.EBADF { // of a process that is closed to us, or gone
				return err
			}
		}
		return err
	}},
	{"/proc/PID/fd", func(pid, _ int) error {
		// Listing is not enough for harm, opening is.
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		for fd := range firstFDs {
			got, err := unix.Open(dir+"/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(got)
				return nil
			}
			if err != unix.ENOENT && err != unix.ENXIO {
				return err
			}
		}
		return unix.ENOENT
	}},
	{"/proc/PID/mem", func(pid, _ int) error { return opens(pid, "mem") }},
	{"/proc/PID/maps", func(pid, _ int) error { return opens(pid, "maps") }},
	{"/proc/PID/map_files", func(pid, _ int) error { return opens(pid, "map_files") }},
	{"/proc/PID/environ", func(pid, _ int) error { return opens(pid, "environ") }},
	{"process_vm_readv", func(pid, _ int) error {
		var b [8]byte
		local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
		// Where a static Go program is loaded.
		_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: len(b)}}, 0)
		return err
	}},
	{"kcmp", func(pid, _ int) error {
		const kcmpVM = 1
		if _, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(os.Getpid()), kcmpVM, 0, 0, 0); errno != 0 {
			return errno
		}
		return nil
	}},
}

// Tracing is a way of its own: it lasts, and so it ends the process.
var tracing = []way{
	{"PTRACE_SEIZE", func(pid, _ int) error { return trace(unix.PTRACE_SEIZE, pid) }},
	{"PTRACE_ATTACH", func(pid, _ int) error { return trace(unix.PTRACE_ATTACH, pid) }},
}

func trace(request, pid int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	unix.Kill(pid, unix.SIGKILL)
	unix.Wait4(pid, nil, unix.WALL, nil)
	return nil
}

func opens(pid int, file string) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", pid, file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch file {
	case "maps", "environ": // those of a zombie open, and are empty
		var b [1]byte
		if n, err := unix.Read(fd, b[:]); n <= 0 {
			return errors.Join(unix.EACCES, err)
		}
	case "map_files":
		var b [4096]byte
		if _, err := unix.Getdents(fd, b[:]); err != nil {
			return err
		}
	}
	return nil
}

// abstractSockets are the names in the namespace that has no permissions.
func abstractSockets() (names []string) {
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) == 8 && strings.HasPrefix(f[7], "@") && len(f[7]) == 6 {
			names = append(names, f[7])
		}
	}
	return names
}

// errOther is a socket that is none of ours.
var errOther = errors.New("another program's")

// listening is the way through a socket on which one of those to be attacked
// listens.
const listening = "abstract socket"

// connectTo takes what the listener gives, if it is one of those to be attacked.
func connectTo(name string, ours func(pid int) bool) (err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if unix.Connect(fd, &unix.SockaddrUnix{Name: name}) != nil {
		return errOther
	}
	if peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || !ours(int(peer.Pid)) {
		return errOther
	}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	buf, oob := make([]byte, 4096), make([]byte, 256)
	n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
	if err == nil && n == 0 && oobn == 0 {
		err = syscall.ECONNRESET
	}
	if messages, e := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && e == nil {
		for _, m := range messages {
			fds, _ := unix.ParseUnixRights(&m)
			for _, got := range fds { // or the mount could not even die
				unix.Close(got)
			}
		}
	}
	return err
}
