package attack

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/mounted"
	"tokenfs/integration/test/scan"
)

// What is left of a process in files that outlive it: swap and core dumps.

// secrets are what must not be found: contents, and the keys that a test build
// reveals, each in pieces as long as a key.
func secrets(t *testing.T, m *mounted.Mount, content []byte) (all [][]byte) {
	t.Helper()
	var revealed struct{ Keys []string }
	if err := json.Unmarshal(m.Control(t, `{"v":1,"verb":"reveal"}`), &revealed); err != nil || len(revealed.Keys) == 0 {
		t.Fatalf("no keys were revealed: %v", err)
	}
	for _, k := range revealed.Keys {
		key, err := hex.DecodeString(k)
		if err != nil || len(key) < 16 {
			t.Fatalf("key of %d bytes: %v", len(key), err)
		}
		for i := range key {
			key[i] = ^key[i]
		}
		all = append(all, key[:16])
	}
	return append(all, content)
}

func fill(t *testing.T, m *mounted.Mount) (content []byte) {
	t.Helper()
	content = fmt.Appendf(nil, "token %d %d", time.Now().UnixNano(), os.Getpid())
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(m.Dir, fmt.Sprint(i)), bytes.Repeat(content, 200), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return content
}

// addSwap has the machine swap to a file until the test ends.
func addSwap(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "swap")
	if err := os.WriteFile(path, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkswap", path).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: mkswap: %v: %s", err, out)
	}
	name, _ := unix.BytePtrFromString(path)
	// Before all other swap: the highest priority, SWAP_FLAG_PREFER.
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0x8000|0x7fff, 0); errno != 0 {
		t.Skipf("NOT RUN: nothing can be swapped here: swapon: %v", errno)
	}
	t.Cleanup(func() {
		if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
			t.Errorf("swapoff %s: %v: try it by hand", path, errno)
		}
	})
	return path
}

// pageOut asks the kernel to swap out all of a process that it may.
func pageOut(t *testing.T, pid int) {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	regions, err := scan.Regions(pid)
	if err != nil {
		t.Fatal(err)
	}
	paged := 0
	for _, r := range regions {
		// struct iovec, of addresses that are not ours.
		iov := [2]uint64{r.Start, r.End - r.Start}
		if _, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(pidfd), uintptr(unsafe.Pointer(&iov)), 1, unix.MADV_PAGEOUT, 0, 0); errno == 0 {
			paged++
		}
	}
	if paged == 0 {
		t.Skip("NOT RUN: this kernel does not page out another process's memory (process_madvise)")
	}
}

// swapped is how much of a process is in swap.
func swapped(pid int) (kib int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmSwap:") {
			fmt.Sscanf(line, "VmSwap: %d kB", &kib)
		}
	}
	return kib
}

// onDisk looks into a swap file past the page cache, which does not have what
// the kernel swapped out.
func onDisk(t *testing.T, path string, secrets [][]byte) (found int) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buffer, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(buffer)
	for {
		n, err := unix.Read(fd, buffer)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return found
		}
		for _, s := range secrets {
			found += bytes.Count(buffer[:n], s)
		}
	}
}

func TestSwap(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root, to add swap and to look into it")
	}
	if mounted.Race {
		t.Skip("NOT RUN with the race detector, whose memory is too large to write")
	}
	for _, c := range []struct {
		name string
		tags []string
	}{{"protected", []string{"tokenfs_reveal"}}, {"unprotected", []string{"tokenfs_reveal", "tokenfs_unprotected"}}} {
		t.Run(c.name, func(t *testing.T) {
			swap := addSwap(t)
			m := mounted.New(t, mounted.Build(t, c.tags...), "--secretmem=off")
			content := fill(t, m)
			wanted := secrets(t, m, content)
			pids := m.PIDs(t)
			total := 0
			// Writing to disk takes the kernel a moment, and may need asking twice.
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
				total = 0
				for _, pid := range pids {
					pageOut(t, pid)
					total += swapped(pid)
				}
				found := onDisk(t, swap, wanted)
				if c.name == "protected" && found > 0 {
					t.Fatalf("found %d secrets in swap, with %d KiB of the processes there", found, total)
				}
				if total > 1000 && (c.name == "protected" || found > 0) {
					t.Logf("%d KiB of the processes are in swap, and %d secrets", total, found)
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d KiB of the processes are in swap, and %d secrets: the test sees nothing", total, found)
				}
			}
		})
	}
}

// dumpTo has the kernel write core dumps to a directory until the test ends.
func dumpTo(t *testing.T, dir string) {
	t.Helper()
	const file = "/proc/sys/kernel/core_pattern"
	before, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(dir+"/core.%p"), 0)
	}
	if err != nil {
		t.Skipf("NOT RUN: core dumps cannot be directed here: %v", err)
	}
	t.Cleanup(func() { os.WriteFile(file, before, 0) })
}

const victimName = "victim"

// victimMain executes its arguments so that the kernel ends them, and makes a core
// dump where it may, as soon as they ask who has connected to a socket. Signals that
// are sent are no use: the Go runtime handles them all, and nothing in its
// environment decides what a keeper does then.
func victimMain() {
	runtime.LockOSThread()
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
		allow  = 0x7fff0000 // SECCOMP_RET_ALLOW
		kill   = 0x80000000 // SECCOMP_RET_KILL_PROCESS
		option = 32         // the lower half of the third argument, in struct seccomp_data
	)
	filter := []unix.SockFilter{
		{Code: load, K: 0},
		{Code: equal, K: unix.SYS_GETSOCKOPT, Jf: 3},
		{Code: load, K: option},
		{Code: equal, K: unix.SO_PEERCRED, Jf: 1},
		{Code: ret, K: kill},
		{Code: ret, K: allow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	}
	if err == nil {
		err = unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	panic(err)
}

// A keeper that the kernel ends for a fault leaves no dump of its memory.
func TestCoreDump(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root, to have core dumps made where they can be found")
	}
	if mounted.Race {
		t.Skip("NOT RUN with the race detector, whose memory is too large to write")
	}
	for _, c := range []struct {
		name string
		tags []string
		want int
	}{{"protected", nil, 0}, {"unprotected", []string{"tokenfs_unprotected"}, 1}} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			dumps, mountpoint := filepath.Join(tmp, "dumps"), filepath.Join(tmp, "mnt")
			for _, dir := range []string{dumps, mountpoint} {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			dumpTo(t, dumps)
			daemon := exec.Command("/proc/self/exe", mounted.Build(t, c.tags...), "mount", "-f", mountpoint)
			daemon.Args[0] = victimName
			daemon.Env = []string{"HOME=" + tmp, "PATH=" + os.Getenv("PATH")}
			out, err := daemon.StdoutPipe()
			if err == nil {
				err = daemon.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(mountpoint, unix.MNT_DETACH) })
			line := make([]byte, 100)
			if n, _ := out.Read(line); !strings.HasPrefix(string(line[:n]), "mounted on") {
				t.Fatalf("mount: %s", line[:n])
			}
			conn, err := net.Dial("unix", mountpoint+".sock")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			err = daemon.Wait()
			if status := daemon.ProcessState.String(); !strings.HasPrefix(status, "signal: bad system call") {
				t.Fatalf("the daemon ended with %v: nothing would be dumped anywhere", err)
			}
			cores, _ := filepath.Glob(dumps + "/core.*")
			if len(cores) != c.want {
				t.Errorf("%d core dumps, want %d", len(cores), c.want)
			}
		})
	}
}
