package lifecycle

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/sandbox"
)

// Process is one of a filesystem's processes, and what it cannot do.
type Process struct {
	Role        string       `json:"role"` // keeper or worker
	PID         int          `json:"pid"`
	Protections []Protection `json:"protections"`
}

func (d *daemon) processes() []Process {
	keeper := Process{"keeper", os.Getpid(), []Protection{ptrace(), coreDumps(), fileLimit(os.Getpid())}}
	why := "it starts fusermount3, which is setuid, to unmount"
	if os.Geteuid() == 0 {
		why = "it unmounts, and starts workers"
	}
	for _, name := range []string{"no_new_privs", "landlock", "seccomp"} {
		keeper.Protections = append(keeper.Protections, Protection{name, false, why})
	}
	all := []Process{keeper}
	d.worker.mu.Lock()
	defer d.worker.mu.Unlock()
	if c := d.worker.current; c != nil && c.locked != nil {
		all = append(all, Process{"worker", c.Pid, c.protections()})
	}
	return all
}

// protections of a worker: what the kernel says of it, and only where that says
// nothing, what it said itself.
func (c *child) protections() []Protection {
	said := c.locked
	list := append(slices.Clone(said.Own), fileLimit(c.Pid))
	if now, found := tracedNow(c.Pid); found { // root can begin that at any time
		list = append(slices.DeleteFunc(list, func(p Protection) bool { return p.Name == now.Name }), now)
	}

	privs := Protection{"no_new_privs", false, said.NoNewPrivs}
	if have, all, err := sandbox.Threads(c.Pid, "NoNewPrivs", "1"); err == nil && have == all {
		privs.Active, privs.Detail = true, "no program could give it privileges"
	} else if privs.Detail == "" {
		privs.Detail = fmt.Sprintf("in %d of %d threads", have, all)
	}

	files := Protection{"landlock", said.Landlock == "" && said.LandlockABI > 0, said.Landlock}
	if files.Active {
		files.Detail = fmt.Sprintf("ABI %d: it can open, make or remove no file", said.LandlockABI)
	}

	calls := Protection{"seccomp", false, said.Seccomp}
	switch have, all, err := sandbox.Threads(c.Pid, "Seccomp", "2"); {
	case err != nil || have != all:
		if calls.Detail == "" {
			calls.Detail = fmt.Sprintf("in %d of %d threads", have, all)
		}
	case said.Listener:
		calls.Active, calls.Detail = true, fmt.Sprintf("%d system calls are left to it; another one ends it, and is named here", said.Calls)
	default:
		calls.Active, calls.Detail = true, fmt.Sprintf("%d system calls are left to it; another one ends it, and is named in the kernel's log only: %s", said.Calls, said.Unnamed)
	}
	return append(list, privs, files, calls, capabilities(c.Pid))
}

func fileLimit(pid int) Protection {
	var files unix.Rlimit
	const name = "file_limit"
	switch err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &files); {
	case err != nil:
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}
	case files.Max == 0:
		return Protection{name, true, "it can open nothing more"}
	case files.Max > keeperFiles:
		return Protection{name, false, fmt.Sprintf("it can have %d files open", files.Max)}
	default:
		return Protection{name, true, fmt.Sprintf("it can have %d files open", files.Max)}
	}
}

func capabilities(pid int) Protection {
	const name = "capabilities"
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}
	}
	for line := range strings.Lines(string(status)) {
		if set, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			switch set = strings.TrimSpace(set); set {
			case "0000000000000000":
				return Protection{name, true, "it has none"}
			case fmt.Sprintf("%016x", 1<<unix.CAP_IPC_LOCK):
				return Protection{name, true, "it has none but to lock memory"}
			default:
				return Protection{name, false, "it has " + set}
			}
		}
	}
	return Protection{name, false, "not known"}
}
