//go:build tokenfs_reveal

package lifecycle

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// verbTry has the worker of a test build do what somebody would who had taken
// it over; the path is the name of a deed.
const verbTry = "try"

var parent = os.Getppid()

// deeds return nil if they came off.
var deeds = map[string]func() error{
	"openat": func() error {
		fd, err := unix.Open("/etc/passwd", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return closed(fd, err)
	},
	"openat-to-write": func() error {
		fd, err := unix.Open(os.TempDir(), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		return closed(fd, err)
	},
	"socket": func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return closed(fd, err)
	},
	"memfd_create": func() error { return closed(unix.MemfdCreate("intruder", unix.MFD_CLOEXEC)) },
	"dup":          func() error { return closed(unix.Dup(0)) },
	"clone": func() error { // a process, not a thread
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			for {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
		_, err := unix.Wait4(int(pid), nil, 0, nil)
		return err
	},
	"execve": func() error { // that the kernel looks for the file is enough
		if err := unix.Exec("/nowhere", nil, nil); err != unix.ENOENT {
			return err
		}
		return nil
	},
	"mmap": func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"mprotect": func() error {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
		}
		return err
	},
	"ioctl":       func() error { _, err := unix.IoctlGetInt(0, unix.TIOCINQ); return allowed(err) },
	"fcntl":       func() error { _, err := unix.FcntlInt(0, unix.F_GETFL, 0); return err },
	"prctl":       func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"ptrace":      func() error { return allowed(unix.PtraceSeize(1 << 30)) },
	"kill":        func() error { return unix.Kill(parent, 0) },
	"tgkill":      func() error { return unix.Tgkill(parent, parent, 0) },
	"unshare":     func() error { return unix.Unshare(unix.CLONE_FILES) },
	"prlimit64":   func() error { return unix.Prlimit(0, unix.RLIMIT_CORE, nil, &unix.Rlimit{}) },
	"pidfd_getfd": func() error { _, err := unix.PidfdGetfd(0, 0, 0); return allowed(err) },
	"process_vm_readv": func() error {
		_, err := unix.ProcessVMReadv(parent, []unix.Iovec{}, []unix.RemoteIovec{}, 0)
		return err
	},
	"io_uring_setup": func() error {
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 0, 0, 0)
		return allowed(errno)
	},
	"ftruncate": func() error { return allowed(unix.Ftruncate(0, 0)) },
}

func closed(fd int, err error) error {
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// allowed takes an error that is not a refusal for a call that was made.
func allowed(err error) error {
	if err == unix.EPERM || err == unix.EACCES || err == unix.ENOSYS {
		return err
	}
	return nil
}

func try(deed string) (answer toKeeper) {
	f := deeds[deed]
	if f == nil {
		return toKeeper{Error: fmt.Sprintf("no deed %q", deed)}
	}
	if err := f(); err != nil {
		return toKeeper{Error: err.Error()}
	}
	return toKeeper{Files: 1}
}

func (d *daemon) try(r request) reply {
	if len(r.Paths) != 1 {
		return failure(fmt.Errorf("one deed at a time"))
	}
	answer, err := d.worker.call(toWorker{Verb: verbTry, Path: r.Paths[0]}, answerLimit)
	if err != nil {
		return failure(err)
	}
	return reply{V: protocolVersion, Files: answer.Files}
}
