package scan

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary started again with an argument is the process looked at. It
// is told what to hold over its standard input, so that the secret never is in
// its arguments, and says over its standard output where it put it.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "hold=") {
		hold(strings.TrimPrefix(os.Args[1], "hold="))
		return
	}
	os.Exit(m.Run())
}

func hold(where string) {
	at := mapping(where)
	if _, err := io.ReadFull(os.Stdin, at[4096-1000:][:3000]); err != nil {
		panic(err)
	}
	if where == "nowhere" {
		clear(at)
	}
	fmt.Printf("%p\n", at)
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(at)
}

// mapping is 64 KiB of memory of a kind; the secret lies across its first pages.
func mapping(where string) []byte {
	const size = 64 << 10
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	switch where {
	case "secretmem":
		fd, err := unix.MemfdSecret(0)
		must(err)
		must(unix.Ftruncate(fd, size))
		m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(err)
		return m
	case "memfd", "unmapped":
		fd, err := unix.MemfdCreate("held", 0)
		must(err)
		must(unix.Ftruncate(fd, size))
		m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(err)
		if where == "unmapped" {
			// Filled through a mapping that goes, so that no copy lies elsewhere.
			_, err := io.ReadFull(os.Stdin, m[4096-1000:][:3000])
			must(err)
			must(unix.Munmap(m))
			fmt.Println("0x0")
			io.Copy(io.Discard, os.Stdin)
		}
		return m
	case "locked":
		m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		must(err)
		must(unix.Mlock(m))
		must(unix.Madvise(m, unix.MADV_DONTDUMP))
		return m
	case "unreachable":
		m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		must(err)
		_, err = io.ReadFull(os.Stdin, m[4096-1000:][:3000])
		must(err)
		must(unix.Mprotect(m, unix.PROT_NONE))
		fmt.Printf("%p\n", m)
		io.Copy(io.Discard, os.Stdin)
		return m
	default:
		return make([]byte, size)
	}
}

// start runs a process that holds secret; it ends with the test.
func start(t *testing.T, where string, secret []byte) (pid int, at uint64) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "hold="+where)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if _, err := in.Write(secret); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		in.Close()
		cmd.Wait()
		t.Fatalf("the process to look at: %v\n%s", err, stderr.Bytes())
	}
	fmt.Sscanf(line, "0x%x", &at)
	return cmd.Process.Pid, at
}

func needSecretmem(t *testing.T) {
	fd, err := unix.MemfdSecret(0)
	if err != nil {
		t.Skipf("this kernel has no memfd_secret (%v): that its pages show as unread is not tested", err)
	}
	unix.Close(fd)
}

func TestProcess(t *testing.T) {
	for _, where := range []string{"heap", "memfd", "unmapped", "locked", "unreachable", "secretmem", "nowhere"} {
		t.Run(where, func(t *testing.T) {
			if where == "secretmem" {
				needSecretmem(t)
			}
			secret := random(3000)
			var s, other Set
			if err := errors.Join(s.Add("planted", secret), other.Add("not planted", random(3000))); err != nil {
				t.Fatal(err)
			}
			pid, at := start(t, where, secret)
			if err := Stop(pid); err != nil {
				t.Fatal(err)
			}
			rep, err := Process(pid, &s, &other)
			if err := Continue(pid); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d regions, %d KiB read, %d KiB unread: %v", len(rep.Regions), rep.Bytes>>10, rep.UnreadBytes()>>10, rep.Unread)

			var hits []Hit
			for _, h := range rep.Hits {
				if h.Label != "planted" {
					t.Errorf("found what was never there: %+v", h)
				} else if h.Addr >= at && h.Addr < at+64<<10 || where == "unmapped" && strings.Contains(h.Region.Name, "not mapped") {
					hits = append(hits, h)
				} else {
					t.Errorf("the secret was left in %v at %#x: the test's own process is not as meant", h.Region, h.Addr)
				}
			}
			found := 0
			for _, h := range hits {
				found += h.Len
			}
			if want := where != "nowhere" && where != "secretmem"; want && found < len(secret) || !want && found > 0 {
				t.Errorf("found %d bytes of the secret in %+v", found, hits)
			}
			for _, h := range hits {
				if locked := where == "locked"; h.Region.Locked != locked || h.Region.NoDump != locked {
					t.Errorf("the region %+v should be reported locked: %v", h.Region, locked)
				}
			}
			unread := slices.IndexFunc(rep.Unread, func(u Unread) bool { return u.Start <= at && at < u.End })
			if where == "secretmem" && (unread < 0 || rep.Unread[unread].Err != unix.EIO || !rep.Unread[unread].Region.Locked) {
				t.Errorf("memfd_secret is not among what could not be read: %v", rep.Unread)
			}
			if where != "secretmem" && unread >= 0 {
				t.Errorf("could not read what held the secret: %v", rep.Unread[unread])
			}
		})
	}
}

// A hole in a memfd is not read into existence.
func TestProcessLeavesHolesAlone(t *testing.T) {
	pid, at := start(t, "memfd", random(3000))
	blocks := func() int64 {
		var st unix.Stat_t
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, p := range paths {
			if name, _ := os.Readlink(p); strings.HasPrefix(name, "/memfd:held") && unix.Stat(p, &st) == nil {
				return st.Blocks
			}
		}
		t.Fatalf("process %d has no memfd at %#x", pid, at)
		return 0
	}
	var s Set
	s.Add("other", random(32))
	before := blocks()
	if _, err := Process(pid, &s); err != nil {
		t.Fatal(err)
	}
	if after := blocks(); after != before || after == 0 {
		t.Errorf("the memfd had %d blocks before, and has %d after", before, after)
	}
}

// What may not be read is an error, not an empty report.
func TestProcessRefused(t *testing.T) {
	var s Set
	s.Add("other", random(32))
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if rep, err := Process(gone.Process.Pid, &s); err == nil {
		t.Errorf("a process that has ended was searched: %+v", rep)
	}
	if os.Getuid() == 0 {
		return // may read any process; the demo's test covers the refusal
	}
	if rep, err := Process(1, &s); !errors.Is(err, os.ErrPermission) {
		t.Errorf("another user's process: %+v, %v", rep, err)
	}
}

func TestFile(t *testing.T) {
	secret := random(5 << 20)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const at = 3<<20 + 12345
	if _, err := f.WriteAt(secret, at); err != nil {
		t.Fatal(err)
	}
	var s Set
	s.Add("planted", secret[:100])
	s.Add("at a seam", secret[2<<20:])
	s.Add("tail", secret[len(secret)-9:])
	s.Add("other", random(100))
	rep, err := File(f, &s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range rep.Hits {
		got = append(got, h.Label)
	}
	got = slices.Compact(got)
	if !slices.Equal(got, []string{"planted", "at a seam", "tail"}) || rep.Hits[0].Addr != at {
		t.Errorf("found %v: %+v", got, rep.Hits)
	}
}

func TestCachedPages(t *testing.T) {
	f, err := os.Create(filepath.Join("/dev/shm", fmt.Sprintf("scan-test-%d", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	for _, size := range []int{0, 1, 10 * 4096} {
		if _, err := f.WriteAt(random(size), 0); err != nil {
			t.Fatal(err)
		}
		want := uint64(size+4095) / 4096
		n, how, err := CachedPages(f)
		if err != nil || n != want {
			t.Errorf("%s counts %d pages of a file of %d bytes, %v", how, n, size, err)
		}
		if n, err := mincore(f); err != nil || n != want {
			t.Errorf("mincore counts %d pages of a file of %d bytes, %v", n, size, err)
		}
	}
}
