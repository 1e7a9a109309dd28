package lifecycle

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/session"
)

// StatusVersion changes when a field of Status changes its meaning or goes
// away; new fields do not change it.
const StatusVersion = 1

// Status is what a filesystem holds, and what protects it on this machine and
// what does not. It is the JSON of the command.
type Status struct {
	FormatVersion int         `json:"format_version"`
	Mount         MountStatus `json:"mount"`

	Program ProgramStatus `json:"program"`

	Content     fs.Status    `json:"content"`
	Worker      WorkerStatus `json:"worker"`
	Processes   []Process    `json:"processes"`
	AEAD        string       `json:"aead"`
	Protections []Protection `json:"protections"`
	Memory      MemoryStatus `json:"memory"`
	Messages    []Message    `json:"messages"` // the last ones, oldest first

	Session session.Status `json:"session"`
}

// MountStatus is where a filesystem is, and since when.
type MountStatus struct {
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
	PID        int       `json:"pid"`
	Version    string    `json:"version"`
	Options    []string  `json:"options"` // given with -o
	Upgrades   int       `json:"upgrades"`
	Private    bool      `json:"private"` // in the namespace of one process tree
}

// WorkerStatus is about the process that serves.
type WorkerStatus struct {
	PID      int `json:"pid"` // 0 while one is being started
	Restarts int `json:"restarts"`
}

// Protection is one way in which contents are kept inside.
type Protection struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Detail string `json:"detail"`
}

// MemoryStatus is in bytes; -1 means without limit, or not known.
type MemoryStatus struct {
	Locked    int64 `json:"locked"`
	LockLimit int64 `json:"lock_limit"`
	PSS       int64 `json:"pss"`

	// The limit that the processes had when it was mounted, and what was asked
	// for then: content.quota and content.inode_limit are lower where that would
	// not fit beneath it.
	Limit        int64  `json:"limit"`
	LimitOf      string `json:"limit_of"` // a cgroup
	SizeWanted   int64  `json:"size_wanted"`
	InodesWanted int    `json:"inodes_wanted"`
}

// status also returns the content as the worker wrote it, which the caller clears.
func (d *daemon) status() (Status, []byte) {
	w, pid, restarts, err := d.worker.status()
	if err != nil {
		d.journal.logf("status: %v", err)
	}
	options := d.opts.MountOptions
	if options == nil {
		options = []string{}
	}
	return Status{
		FormatVersion: StatusVersion,
		Mount:         MountStatus{d.mount.Path, d.since.UTC(), os.Getpid(), d.opts.Version, options, d.upgrades, d.run.Private()},
		Program:       d.programStatus(),
		Worker:        WorkerStatus{pid, restarts},
		Processes:     d.processes(),
		AEAD:          "AES-256-GCM",
		Protections:   d.protections(w.Memory),
		Memory: MemoryStatus{
			Locked:    procBytes(fmt.Sprintf("/proc/%d/status", pid), "VmLck:"),
			LockLimit: crypt.LockLimit(),
			PSS:       procBytes("/proc/self/smaps_rollup", "Pss:") + w.PSS,

			Limit:        d.limit.forStatus(),
			LimitOf:      d.limit.Of,
			SizeWanted:   d.wanted.Size,
			InodesWanted: d.wanted.Inodes,
		},
		Messages: d.journal.messages(),
		Session:  d.session.Status(),
	}, w.Content
}

func (d *daemon) protections(m crypt.MemoryStatus) []Protection {
	secretmem := Protection{"secretmem", m.Secretmem, "keys are outside the kernel's own map of memory; no hibernation meanwhile"}
	if !m.Secretmem {
		secretmem.Detail = m.SecretmemWhy
	}
	aes := Protection{"aes_instructions", m.HardwareAES, "AES runs in constant time"}
	if !m.HardwareAES {
		aes.Detail = "AES runs without the instructions of a CPU for it: it is slow, and its timing depends on the key"
	}
	inPlace := Protection{"keys_set_up_in_place", m.InPlaceKeys, "cipher states are made where they are locked, and never on the heap"}
	if !m.InPlaceKeys {
		inPlace.Detail = "cipher states pass through the heap on this machine, and may leave traces there"
	}
	helper, safe := mount.Helper()
	return []Protection{
		secretmem,
		inPlace,
		{"keys_locked", m.KeysLocked >= m.KeysSize, lockedDetail(m.KeysLocked, m.KeysSize)},
		{"slots_locked", m.SlotsLocked >= m.SlotsSize, lockedDetail(m.SlotsLocked, m.SlotsSize)},
		aes,
		binaryUnreadable(),
		d.program.protection(),
		{"mount_helper", safe, helper},
		swapAbsent(),
		swapForbidden(),
		clearsFreedMemory(),
		d.nothingBeneath(),
		d.closedBeneath(),
		d.uncovered(),
	}
}

func lockedDetail(locked, size int64) string {
	if locked >= size {
		return fmt.Sprintf("all %d KiB cannot be swapped out", size>>10)
	}
	return fmt.Sprintf("%d of %d KiB cannot be swapped out: raise the limit on locked memory (ulimit -l)", locked>>10, size>>10)
}

func coreDumps() Protection {
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 {
		return Protection{"core_dumps_off", false, fmt.Sprintf("core limit is %d", core.Cur)}
	}
	return Protection{"core_dumps_off", true, "the limit is 0"}
}

func ptrace() Protection {
	const name = "ptrace_off"
	if p, found := tracedNow(os.Getpid()); found {
		return p
	}
	// 2 stands for "only root", which it gets when its user cannot read the binary.
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable == 1 {
		return Protection{name, false, "other processes of this user can read its memory"}
	}
	return Protection{name, true, "other processes of this user cannot read its memory"}
}

// tracedNow is what is wrong with ptrace_off of a process that somebody traces.
func tracedNow(pid int) (p Protection, found bool) {
	const name = "ptrace_off"
	switch tracer, err := process.TracerOf(strconv.Itoa(pid)); {
	case err != nil:
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}, true
	case tracer != "":
		return Protection{name, false, fmt.Sprintf("process %s traces it, and can take its keys", tracer)}, true
	}
	return Protection{}, false
}

func binaryUnreadable() Protection {
	const name = "binary_unreadable"
	if os.Geteuid() == 0 {
		return Protection{name, false, "root reads every file"}
	}
	if unix.Access(process.Program, unix.R_OK) == nil {
		return Protection{name, false, "the daemon can be read by its user for a moment while it starts: install it root:root with mode 0711"}
	}
	return Protection{name, true, "the daemon cannot be read by its user from its first instruction on"}
}

func swapAbsent() Protection {
	const name = "swap_absent"
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}
	}
	lines := strings.Split(strings.TrimSpace(string(swaps)), "\n")
	var devices []string
	for _, line := range lines[1:] { // the first is the heading
		if f := strings.Fields(line); len(f) > 0 {
			devices = append(devices, mount.Unescape(f[0]))
		}
	}
	if len(devices) == 0 {
		return Protection{name, true, "this machine has none"}
	}
	return Protection{name, false, fmt.Sprintf("%s is in use: apps' memory can get there, keys and contents in locked memory cannot", strings.Join(devices, ", "))}
}

func swapForbidden() Protection {
	const name = "swap_forbidden"
	if keptOutOfSwap() {
		return Protection{name, true, "nothing of its processes can be swapped out"}
	}
	return Protection{name, false, "sealed contents, and what is no secret in its processes, may be swapped out; keys and requests cannot"}
}

func (d *daemon) nothingBeneath() Protection {
	const name = "nothing_beneath"
	names, err := d.mount.PlaintextBeneath()
	if err != nil {
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}
	}
	if len(names) > 0 {
		return Protection{name, false, fmt.Sprintf("plaintext lies beneath the mountpoint (%q ...): unmount, and remove it", names[0])}
	}
	return Protection{name, true, "no plaintext lies beneath the mountpoint"}
}

func (d *daemon) closedBeneath() Protection {
	const name = "closed_beneath"
	if d.mount.Beneath == nil {
		return Protection{name, true, "another tokenfs of this user is beneath"}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.mount.Beneath.Fd()), &st); err != nil {
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}
	}
	switch {
	case os.Geteuid() == 0:
		return Protection{name, false, "a mode does not stop root: apps of root that run while nothing is mounted leave plaintext on disk"}
	case st.Mode&0o222 != 0:
		return Protection{name, false, fmt.Sprintf("the directory beneath has mode %04o: apps that run while nothing is mounted leave plaintext there", st.Mode&0o7777)}
	}
	return Protection{name, true, "apps cannot write to the directory while nothing is mounted"}
}

func (d *daemon) uncovered() Protection {
	const name = "uncovered"
	switch mounted, onTop, err := d.mount.State(); {
	case err != nil:
		return Protection{name, false, fmt.Sprintf("not known: %v", err)}
	case !mounted:
		return Protection{name, false, "the mount is gone from the path"}
	case !onTop:
		return Protection{name, false, "another filesystem is mounted over this one: apps write there"}
	}
	return Protection{name, true, "no other filesystem is mounted over this one"}
}

// procBytes reads a line like "Pss:  1234 kB"; -1 if it is not there.
func procBytes(path, key string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer f.Close()
	return bytesIn(f, key)
}

func bytesIn(r io.Reader, key string) int64 {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), key); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			if err != nil {
				return -1
			}
			return n << 10
		}
	}
	return -1
}
