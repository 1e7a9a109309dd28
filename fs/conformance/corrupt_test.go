package conformance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCorruption flips a bit in every page of every piece of memory that the
// daemon shares with nobody, as a bad DIMM would, one at a time: each read then
// gives the right bytes or EIO, never others, and the daemon goes on.
func TestCorruption(t *testing.T) {
	m := mount(t, mountOptions{Size: 1 << 20})
	if m.daemon == nil {
		t.Skipf("%s is set: no daemon to look into", envDir)
	}
	contents := map[string][]byte{}
	for i, size := range []int{1, 100, 4096, 4097, 50_000, 200_000} {
		name := fmt.Sprintf("token-%d", i)
		contents[name] = payload(uint64(i), int64(size))
		must(t, os.WriteFile(filepath.Join(m.Dir, name), contents[name], 0o600))
	}
	must(t, unix.Setxattr(filepath.Join(m.Dir, "token-1"), "user.a", payload(9, 5000), 0))
	read := func() (failed int) {
		for name, want := range contents {
			got, err := os.ReadFile(filepath.Join(m.Dir, name))
			switch {
			case strings.HasSuffix(fmt.Sprint(err), unix.EIO.Error()):
				failed++
				if !bytes.HasPrefix(want, got) {
					t.Errorf("%s: wrong bytes before the EIO", name)
				}
			case err != nil:
				t.Errorf("%s: %v, want EIO or no error", name, err)
			case !bytes.Equal(got, want):
				t.Errorf("%s: %d wrong bytes", name, len(got))
			}
		}
		buf := make([]byte, 5000)
		if n, err := unix.Getxattr(filepath.Join(m.Dir, "token-1"), "user.a", buf); err == unix.EIO {
			failed++
		} else if err != nil || !bytes.Equal(buf[:n], payload(9, 5000)) {
			t.Errorf("attribute: %d bytes, %v", n, err)
		}
		return failed
	}
	if read() != 0 {
		t.Fatal("EIO before anything was altered")
	}
	arena, err := os.OpenFile(memfd(t, m.daemon.Process.Pid, "arena"), os.O_RDWR, 0)
	must(t, err)
	defer arena.Close()
	pages, hurt := 0, 0
	page := make([]byte, 4096)
	for off := int64(0); ; {
		data, err := unix.Seek(int(arena.Fd()), off, unix.SEEK_DATA)
		if err != nil {
			break
		}
		off = data&^4095 + 4096
		if n, err := arena.ReadAt(page, off-4096); n < 4096 || len(bytes.Trim(page, "\x00")) == 0 {
			if err != nil && n == 0 {
				break
			}
			continue
		}
		at := off - 4096 + int64(bytes.IndexFunc(page, func(r rune) bool { return r != 0 }))
		was := make([]byte, 1)
		if _, err := arena.ReadAt(was, at); err != nil {
			t.Fatal(err)
		}
		pages++
		arena.WriteAt([]byte{was[0] ^ 4}, at)
		if read() > 0 {
			hurt++
		}
		arena.WriteAt(was, at)
	}
	t.Logf("%d pages altered, %d of them made a read fail", pages, hurt)
	if hurt < 50 {
		t.Errorf("only %d of %d pages mattered to a read: are these the contents?", hurt, pages)
	}
	if failed := read(); failed != 0 {
		t.Errorf("%d reads fail although every bit is as it was", failed)
	}
	must(t, os.WriteFile(filepath.Join(m.Dir, "after"), []byte("fine"), 0o600))
}

// memfd finds a named memory file of a process, or of one of its children.
func memfd(t testing.TB, pid int, name string) string {
	t.Helper()
	pids := []string{fmt.Sprint(pid)}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, c := range children {
		b, _ := os.ReadFile(c)
		pids = append(pids, strings.Fields(string(b))...)
	}
	for _, pid := range pids {
		fds, _ := filepath.Glob("/proc/" + pid + "/fd/*")
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/memfd:") && strings.Contains(to, name) {
				return fd
			}
		}
	}
	t.Fatalf("the daemon has no memory file called %s", name)
	return ""
}
