package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle"
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

// What stands in the arena's first page stands in the key region, too: no bit of
// it costs a file, and what was found is told. A record that was altered costs
// what came after it, which is told by more than the loss.
func TestCorruptionWhileNobodyServes(t *testing.T) {
	for name, c := range map[string]struct {
		at    func(arena *os.File) int64
		lost  bool
		tells string
	}{
		"generation":  {func(*os.File) int64 { return 16 }, false, "superblock was altered"},
		"magic":       {func(*os.File) int64 { return 0 }, false, "superblock was altered"},
		"superblock":  {func(*os.File) int64 { return 128 + 13 }, false, "superblock was altered"},
		"last record": {lastRecord, true, "are lost"},
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, mountOptions{Size: 1 << 20})
			if m.daemon == nil {
				t.Skipf("%s is set: no daemon to look into", envDir)
			}
			path := filepath.Join(m.Dir, "token")
			must(t, os.WriteFile(path, []byte("secret"), 0o600))
			must(t, os.Mkdir(filepath.Join(m.Dir, "last"), 0o700))
			arena, err := os.OpenFile(memfd(t, m.daemon.Process.Pid, "arena"), os.O_RDWR, 0)
			must(t, err)
			defer arena.Close()
			at, one := c.at(arena), make([]byte, 1)
			if _, err := arena.ReadAt(one, at); err != nil {
				t.Fatal(err)
			}
			one[0] ^= 1
			if _, err := arena.WriteAt(one, at); err != nil {
				t.Fatal(err)
			}
			before, err := lifecycle.Query(m.Dir)
			must(t, err)
			must(t, unix.Kill(before.Worker.PID, unix.SIGKILL))
			if got, err := os.ReadFile(path); err != nil || string(got) != "secret" {
				t.Errorf("read %q, %v", got, err)
			}
			st, err := lifecycle.Query(m.Dir)
			must(t, err)
			told := ""
			for _, message := range st.Messages {
				told += message.Text + "\n"
				if c.lost && strings.Contains(message.Text, "nothing is lost") {
					t.Errorf("it says %q", message.Text)
				}
			}
			if !strings.Contains(told, c.tells) {
				t.Errorf("it says %q, not %q", told, c.tells)
			}
			if readOnly := st.Content.ReadOnly != ""; readOnly != c.lost {
				t.Errorf("read-only: %q", st.Content.ReadOnly)
			}
			err = os.WriteFile(path, []byte("new"), 0o600)
			if c.lost != errors.Is(err, unix.EROFS) || !c.lost && err != nil {
				t.Errorf("writing: %v", err)
			}
			m.wipe(t)
			must(t, os.WriteFile(path, []byte("after"), 0o600))
		})
	}
}

// lastRecord finds a byte of the last one in the first half of the log; see
// crypt/log.go.
func lastRecord(arena *os.File) (at int64) {
	head := make([]byte, 8)
	for off := int64(4096); ; {
		if _, err := arena.ReadAt(head, off); err != nil {
			return 0
		}
		word := binary.LittleEndian.Uint64(head)
		if word == 0 {
			return at + 30
		}
		at = off
		off += (24 + int64(word>>32&(1<<30-1)) + 7) &^ 7
	}
}
