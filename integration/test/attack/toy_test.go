package attack

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// The toy does what tokenfs must not: its child inherits a descriptor and makes
// itself unreadable as soon as it can, in its first line.
const (
	toyKeeper = "toy-keeper"
	toyWorker = "toy-worker"
)

func toyKeeperMain() {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC)
	if err != nil {
		panic(err)
	}
	key := os.NewFile(uintptr(fd), "key")
	for {
		c := exec.Command("/proc/self/exe")
		c.Args = []string{toyWorker}
		c.ExtraFiles = []*os.File{key}
		if err := c.Start(); err != nil {
			panic(err)
		}
		c.Wait()
	}
}

func toyWorkerMain() {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	for {
		unix.Pause()
	}
}
