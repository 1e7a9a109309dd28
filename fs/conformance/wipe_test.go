package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// timedWipe fails the test if the wipe hangs.
func (m *mounted) timedWipe(t testing.TB) {
	t.Helper()
	done := make(chan bool)
	go func() {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			fmt.Fprintf(os.Stderr, "a wipe has taken 20 s; the daemon's threads: %s\n", threadStates(m.daemon.Process.Pid))
			m.daemon.Process.Kill() // ends the hang of everybody
		}
	}()
	m.wipe(t)
	close(done)
}

// TestWipeOpen wipes under open descriptors of all kinds.
func TestWipeOpen(t *testing.T) {
	m := mount(t, mountOptions{})
	must(t, os.MkdirAll(filepath.Join(m.Dir, "app", "sub"), 0o700))
	path := filepath.Join(m.Dir, "app", "cache.json")
	must(t, os.WriteFile(path, []byte("old token"), 0o600))
	must(t, os.WriteFile(filepath.Join(m.Dir, "top.json"), []byte("old token"), 0o600))
	must(t, os.Symlink("top.json", filepath.Join(m.Dir, "link")))
	must(t, unix.Setxattr(path, "user.a", []byte("old"), 0))
	open := func(p string, flags int) int {
		fd, err := unix.Open(p, flags|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	file, app, dir := open(path, unix.O_RDWR), open(path, unix.O_RDWR|unix.O_APPEND), open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY)
	unlinked := open(filepath.Join(m.Dir, "top.json"), unix.O_RDWR)
	tmpfile := open(m.Dir, unix.O_RDWR|unix.O_TMPFILE)
	root := open(m.Dir, unix.O_RDONLY|unix.O_DIRECTORY)
	handle := open(path, unix.O_PATH)
	must(t, os.Remove(filepath.Join(m.Dir, "top.json")))
	var old unix.Stat_t
	must(t, unix.Fstat(file, &old))

	m.timedWipe(t)

	buf := make([]byte, 100)
	for what, err := range map[string]error{
		"read":                 second(unix.Read(file, buf)),
		"pread":                second(unix.Pread(file, buf, 0)),
		"write":                second(unix.Write(file, buf)),
		"pwrite":               second(unix.Pwrite(file, buf, 1<<20)),
		"append":               second(unix.Write(app, buf)),
		"ftruncate":            unix.Ftruncate(file, 3),
		"fallocate":            unix.Fallocate(file, 0, 0, 4096),
		"lseek SEEK_DATA":      second(unix.Seek(file, 0, unix.SEEK_DATA)),
		"fstat":                unix.Fstat(file, new(unix.Stat_t)),
		"fchmod":               unix.Fchmod(file, 0o600),
		"fgetxattr":            second(unix.Fgetxattr(file, "user.a", buf)),
		"fsetxattr":            unix.Fsetxattr(file, "user.b", buf, 0),
		"read, unlinked":       second(unix.Pread(unlinked, buf, 0)),
		"write, O_TMPFILE":     second(unix.Pwrite(tmpfile, buf, 0)),
		"getdents":             second(unix.Getdents(dir, make([]byte, 4096))),
		"fstat of a directory": unix.Fstat(dir, new(unix.Stat_t)),
		"fstat, O_PATH":        unix.Fstat(handle, new(unix.Stat_t)),
	} {
		if err != unix.EIO {
			t.Errorf("%s on an old descriptor: %v, want EIO", what, err)
		}
	}
	for what, err := range map[string]error{
		"openat under an old directory":  second(unix.Openat(dir, "cache.json", unix.O_RDONLY, 0)),
		"create under an old directory":  second(unix.Openat(dir, "new", unix.O_RDWR|unix.O_CREAT, 0o600)),
		"mkdirat under an old directory": unix.Mkdirat(dir, "new", 0o700),
		"open of an old O_PATH":          second(unix.Open(fmt.Sprintf("/proc/self/fd/%d", handle), unix.O_RDONLY, 0)),
	} {
		if err == nil {
			t.Errorf("%s succeeds", what)
		}
	}
	if entries, err := os.ReadDir(m.Dir); err != nil || len(entries) != 0 {
		t.Errorf("after the wipe the mount lists %v, %v", entries, err)
	}
	if entries, err := readEntries(root); err != nil || len(entries) != 2 {
		t.Errorf("the root, open since before the wipe, lists %v, %v", entries, err)
	}
	for _, p := range []string{path, filepath.Dir(path), filepath.Join(m.Dir, "link"), filepath.Join(m.Dir, "app", "sub")} {
		if err := unix.Lstat(p, new(unix.Stat_t)); err != unix.ENOENT {
			t.Errorf("lstat of the wiped %s: %v", filepath.Base(p), err)
		}
	}
	must(t, os.Mkdir(filepath.Join(m.Dir, "app"), 0o700))
	must(t, os.WriteFile(path, []byte("new"), 0o600))
	var now unix.Stat_t
	must(t, unix.Stat(path, &now))
	if now.Ino <= old.Ino {
		t.Errorf("inode %d after the wipe, %d before: numbers are used again", now.Ino, old.Ino)
	}
	if _, err := unix.Pread(file, buf, 0); err != unix.EIO {
		t.Errorf("read on an old descriptor when a new file has its name: %v, want EIO", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "new" {
		t.Errorf("%q %v", b, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second(_ any, err error) error { return err }

// A wiper's victim: it rewrites its file and reads it back, as descriptor and
// through a mapping, and says what it saw when the old file ended. Whatever it
// reads must be what it wrote last, and the error EIO or SIGBUS.
func init() {
	roles["rewriter"] = func(args []byte) error {
		return victim(args, func(fd int, c client, n int) (bool, error) {
			want := bytes.Repeat([]byte{byte('a' + n%26)}, 20_000)
			if _, err := unix.Pwrite(fd, want, 0); err == unix.EIO {
				return true, nil
			} else if err != nil {
				return false, call("pwrite", err)
			}
			got := make([]byte, len(want))
			k, err := unix.Pread(fd, got, 0)
			if err == unix.EIO {
				return true, nil
			}
			if err != nil || !bytes.Equal(got[:k], want) {
				return false, fmt.Errorf("pread: %d bytes, %v: not what was written", k, err)
			}
			return false, nil
		})
	}
	roles["map-writer"] = func(args []byte) error {
		return victim(args, func(fd int, c client, n int) (gone bool, err error) {
			const size = 1 << 20
			if n == 0 {
				if err := unix.Ftruncate(fd, size); err == unix.EIO {
					return true, nil
				} else if err != nil {
					return false, call("ftruncate", err)
				}
			}
			data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err == unix.EIO, call("mmap", err)
			}
			defer unix.Munmap(data)
			return fillAndCheck(data, byte(n))
		})
	}
}

// fillAndCheck writes a mapping and reads it back. SIGBUS is an end like EIO.
// A page may have been wiped between the two: then it is empty, or the read a
// fault, but never something else.
func fillAndCheck(data []byte, x byte) (gone bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			gone, err = true, nil
		}
	}()
	for i := 0; i < len(data); i += 512 {
		data[i] = x
	}
	for i := 0; i < len(data); i += 512 {
		if data[i] != x {
			return false, fmt.Errorf("a mapping shows %#x where %#x was written", data[i], x)
		}
	}
	return false, nil
}

// victim opens a file, uses it until it is gone, and begins again, until the
// test ends.
func victim(args []byte, use func(fd int, c client, n int) (gone bool, err error)) error {
	var c client
	if err := json.Unmarshal(args, &c); err != nil {
		return err
	}
	fmt.Println("ready")
	for life := 0; ; life++ {
		fd, err := unix.Open(filepath.Join(c.Dir, fmt.Sprintf("file-%d", c.N)), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		if err == unix.EIO || err == unix.ENOENT || err == unix.ESTALE {
			continue // it raced with the wipe
		}
		if err != nil {
			return call("open", err)
		}
		var gone bool
		for n := 0; !gone && err == nil; n++ {
			gone, err = use(fd, c, n)
		}
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		for range 3 { // what is gone stays gone
			if _, err := unix.Pread(fd, make([]byte, 10), 0); err != unix.EIO {
				return fmt.Errorf("life %d: read after the end: %v, want EIO", life, err)
			}
		}
		unix.Close(fd)
		fmt.Println("gone")
	}
}

// TestWipeUnderLoad wipes again and again while several processes write and
// map: no wipe may hang, no process may see a wrong byte, and each must notice.
func TestWipeUnderLoad(t *testing.T) {
	m := mount(t, mountOptions{})
	if m.daemon == nil {
		t.Skipf("%s is set: no wipe there", envDir)
	}
	list := []string{"rewriter", "rewriter", "rewriter", "map-writer", "map-writer", "map-writer"}
	if !kernelAtLeast(6, 6) {
		t.Log("no shared mappings of files with direct I/O before Linux 6.6: only descriptors are tried")
		list = list[:3]
	}
	var mu sync.Mutex
	lives := make([]int, len(list))
	var cmds []*exec.Cmd
	for i, role := range list {
		cmd := roleCommand(t, role, client{Dir: m.Dir, N: i})
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		cmds = append(cmds, cmd)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b := make([]byte, 1<<10)
			for {
				n, err := out.Read(b)
				if err != nil {
					return
				}
				mu.Lock()
				lives[i] += bytes.Count(b[:n], []byte("\n"))
				mu.Unlock()
			}
		}()
		t.Cleanup(func() {
			cmd.Process.Kill()
			<-ended
			cmd.Wait()
			if stderr.Len() > 0 {
				t.Errorf("%s: %s", role, stderr.String())
			}
		})
	}
	all := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, k := range lives {
				if k < n {
					return false
				}
			}
			return true
		}
	}
	poll(t, 30*time.Second, "all clients to start", all(1))
	for round := range 20 {
		// A client lives at least once between two wipes: it has a file to lose.
		poll(t, 10*time.Second, "files of all clients", func() bool {
			entries, err := os.ReadDir(m.Dir)
			return err == nil && len(entries) == len(list)
		})
		m.timedWipe(t)
		poll(t, 30*time.Second, fmt.Sprintf("all clients to notice wipe %d", round), all(round+2))
	}
	for _, cmd := range cmds {
		cmd.Process.Kill()
	}
	// The mount goes on working.
	path := filepath.Join(m.Dir, "after")
	must(t, os.WriteFile(path, []byte("fine"), 0o600))
	if b, err := os.ReadFile(path); err != nil || string(b) != "fine" {
		t.Errorf("%q %v", b, err)
	}
}

// TestWipeClients lets MSAL-like readers and writers run over wipes: they may
// find nothing and may get EIO, but never a torn document.
func TestWipeClients(t *testing.T) {
	m := mount(t, mountOptions{})
	if m.daemon == nil {
		t.Skipf("%s is set: no wipe there", envDir)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			path := filepath.Join(m.Dir, cacheName)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				tmp := fmt.Sprintf("%s.%d", path, i)
				if rewrite(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600, document(n)) == nil {
					os.Rename(tmp, path)
				}
				if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
					if _, err := parseDocument(b); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 30 {
		poll(t, 10*time.Second, "a cache to wipe", func() bool {
			_, err := os.Stat(filepath.Join(m.Dir, cacheName))
			return err == nil
		})
		m.timedWipe(t)
	}
	close(stop)
	wg.Wait()
}
