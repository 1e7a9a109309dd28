package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what statfs tells of limits and what is left.
func usage(t testing.TB, dir string) string {
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	return fmt.Sprintf("blocks %d of %d free, %d available, of %d bytes; inodes %d of %d free",
		st.Bfree, st.Blocks, st.Bavail, st.Bsize, st.Ffree, st.Files)
}

// TestQuotaLikeTmpfs takes the same steps on both, up to and over the limits,
// and compares results and statfs after each. Attributes are left out: tmpfs
// counts them by version, as nothing or in inodes.
func TestQuotaLikeTmpfs(t *testing.T) {
	m := mount(t, mountOptions{Size: 2 << 20, Inodes: 50})
	type step struct {
		what string
		do   func(dir string) string
	}
	file := func(name string) func(string) string {
		return func(dir string) string { return filepath.Join(dir, name) }
	}
	write := func(name string, flags int, off, size int64) func(string) string {
		return func(dir string) string {
			fd, err := unix.Open(filepath.Join(dir, name), flags|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return "open: " + errName(err)
			}
			defer unix.Close(fd)
			n, err := unix.Pwrite(fd, payload(1, size), off)
			return ret(n, err)
		}
	}
	fall := func(name string, mode uint32, off, size int64) func(string) string {
		return func(dir string) string {
			fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return "open: " + errName(err)
			}
			defer unix.Close(fd)
			return errName(unix.Fallocate(fd, mode, off, size))
		}
	}
	name := func(f func(string) error, name string) func(string) string {
		return func(dir string) string { return errName(f(file(name)(dir))) }
	}
	symlink := func(n int, link string) func(string) string {
		return name(func(p string) error { return unix.Symlink(strings.Repeat("s", n), p) }, link)
	}
	steps := []step{
		{"nothing", func(string) string { return "" }},
		{"empty file", write("a", unix.O_CREAT, 0, 0)},
		{"one byte", write("a", 0, 0, 1)},
		{"a hole", write("a", 0, 1<<30, 1)},
		{"many pages", write("b", unix.O_CREAT, 0, 100_000)},
		{"mkdir", name(func(p string) error { return unix.Mkdir(p, 0o700) }, "d")},
		{"short symlink", symlink(127, "s")},
		{"long symlink", symlink(128, "l")},
		{"fifo", name(func(p string) error { return unix.Mknod(p, unix.S_IFIFO|0o600, 0) }, "p")},
		{"hard link", func(dir string) string { return errName(unix.Link(file("a")(dir), file("a2")(dir))) }},
		{"fallocate", fall("c", 0, 0, 50_000)},
		{"fallocate over the same", fall("c", 0, 0, 50_000)},
		{"fallocate behind the end", fall("c", unix.FALLOC_FL_KEEP_SIZE, 50_000, 50_000)},
		{"punch", fall("c", unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, 0, 20_000)},
		{"truncate", name(func(p string) error { return unix.Truncate(p, 30_000) }, "c")},
		{"rename over", func(dir string) string { return errName(unix.Rename(file("c")(dir), file("b")(dir))) }},
		{"unlink one of two names", name(unix.Unlink, "a2")},
		{"fallocate more than there is", fall("big", 0, 0, 3<<20)},
		{"fallocate hugely", fall("big", 0, 0, 1<<40)},
		{"fill in small pieces", func(dir string) string {
			fd, err := unix.Open(file("full")(dir), unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return errName(err)
			}
			defer unix.Close(fd)
			for n := 0; ; {
				k, err := unix.Write(fd, make([]byte, 4096))
				if n += k; err != nil || k == 0 {
					return fmt.Sprint(n, errName(err))
				}
			}
		}},
		{"write within what is there", write("full", 0, 10, 5000)},
		{"one more byte", write("b", 0, 1<<20, 1)},
		{"into a hole", write("a", 0, 1<<20, 10)},
		{"empty file when full", write("e", unix.O_CREAT, 0, 0)},
		{"a byte into it", write("e", 0, 0, 1)},
		{"long symlink when full", symlink(200, "l2")},
		{"short symlink when full", symlink(20, "s2")},
		{"mkdir when full", name(func(p string) error { return unix.Mkdir(p, 0o700) }, "d2")},
		{"fallocate when full", fall("e", 0, 0, 1)},
		{"make room", name(func(p string) error { return unix.Truncate(p, 1<<20) }, "full")},
		{"fill in one piece", write("full2", unix.O_CREAT, 0, 3<<20)},
		{"unlink", name(unix.Unlink, "full2")},
		{"fill in pieces of 100 KB", func(dir string) string {
			fd, err := unix.Open(file("full3")(dir), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return errName(err)
			}
			defer unix.Close(fd)
			for n := 0; ; {
				k, err := unix.Write(fd, make([]byte, 100_000))
				if n += max(k, 0); err != nil || k == 0 {
					return fmt.Sprint(n, errName(err))
				}
			}
		}},
		{"unlink", name(unix.Unlink, "full3")},
		{"all inodes", func(dir string) string {
			for n := 0; ; n++ {
				fd, err := unix.Open(file(fmt.Sprintf("i%03d", n))(dir), unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
				if err != nil {
					return fmt.Sprint(n, errName(err))
				}
				unix.Close(fd)
			}
		}},
		{"mkdir without inodes", name(func(p string) error { return unix.Mkdir(p, 0o700) }, "d3")},
		{"symlink without inodes", symlink(20, "s3")},
		{"mknod without inodes", name(func(p string) error { return unix.Mknod(p, unix.S_IFIFO|0o600, 0) }, "p3")},
		{"hard link without inodes", func(dir string) string { return errName(unix.Link(file("a")(dir), file("a3")(dir))) }},
		{"O_TMPFILE without inodes", func(dir string) string {
			fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
			unix.Close(fd)
			return errName(err)
		}},
		{"rename over without inodes", func(dir string) string {
			return errName(unix.Rename(file("i000")(dir), file("i001")(dir)))
		}},
		{"one inode again", write("again", unix.O_CREAT, 0, 0)},
		{"whiteout without inodes", func(dir string) string {
			return errName(unix.Renameat2(unix.AT_FDCWD, file("i002")(dir), unix.AT_FDCWD, file("i003")(dir), unix.RENAME_WHITEOUT))
		}},
	}
	for _, s := range steps {
		want, got := s.do(m.Ref), s.do(m.Dir)
		if got != want {
			t.Errorf("%s: %s, on tmpfs %s", s.what, got, want)
		}
		// What is unlinked is freed when the kernel forgets it, a moment later.
		var a, b string
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if a, b = usage(t, m.Dir), usage(t, m.Ref); a == b {
				break
			}
		}
		if a != b {
			t.Errorf("%s: statfs tells\n%s, on tmpfs\n%s", s.what, a, b)
			return
		}
	}
	for _, name := range []string{"b", "full"} { // a is sparse, and too large
		a, errA := os.ReadFile(filepath.Join(m.Dir, name))
		b, errB := os.ReadFile(filepath.Join(m.Ref, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is %d bytes (%v), on tmpfs %d (%v), and not the same", name, len(a), errA, len(b), errB)
		}
	}
}

func init() {
	// A grabber takes every byte that becomes free.
	roles["grabber"] = func(args []byte) error {
		var c client
		if err := json.Unmarshal(args, &c); err != nil {
			return err
		}
		fd, err := unix.Open(filepath.Join(c.Dir, fmt.Sprintf("grabbed-%d", c.N)), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		b := make([]byte, 4096)
		for {
			if _, err := unix.Write(fd, b); err == unix.ENOSPC {
				time.Sleep(20 * time.Microsecond)
			} else if err != nil {
				return err
			}
		}
	}
}

// rewrites are the ways in which clients replace the contents of a file.
var rewrites = map[string]func(path string, b []byte) error{
	"O_TRUNC, one write": func(path string, b []byte) error {
		return rewrite(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600, b)
	},
	"O_TRUNC, many writes": func(path string, b []byte) error {
		return inPieces(path, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, b, nil)
	},
	"open, ftruncate, write": func(path string, b []byte) error {
		return inPieces(path, unix.O_WRONLY|unix.O_CREAT, b, func(fd int) error { return unix.Ftruncate(fd, 0) })
	},
	"open, write, ftruncate": func(path string, b []byte) error {
		fd, err := openCall(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return writeAllThen(fd, b, func() error { return unix.Ftruncate(fd, int64(len(b))) })
	},
	"truncate, O_APPEND": func(path string, b []byte) error {
		if err := unix.Truncate(path, 0); err != nil {
			return call("truncate", err)
		}
		return inPieces(path, unix.O_WRONLY|unix.O_APPEND, b, nil)
	},
	"O_TRUNC, close, open, write": func(path string, b []byte) error {
		if err := rewrite(path, unix.O_WRONLY|unix.O_TRUNC, 0, nil); err != nil {
			return err
		}
		return rewrite(path, unix.O_WRONLY, 0, b)
	},
}

func writeAllThen(fd int, b []byte, then func() error) error {
	if err := writeAll(fd, b); err != nil {
		return err
	}
	return then()
}

func inPieces(path string, flags int, b []byte, first func(fd int) error) error {
	fd, err := openCall(path, flags, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if first != nil {
		if err := first(fd); err != nil {
			return call("ftruncate", err)
		}
	}
	for len(b) > 0 {
		n := min(len(b), 7777)
		if err := writeAll(fd, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// TestRewriteWhenFull rewrites small files on a full filesystem while others
// take all that becomes free: none may be refused, or the old token is lost
// with the new one. tmpfs, where they are, shows that it is a fight.
func TestRewriteWhenFull(t *testing.T) {
	const rounds = 20
	opt := mountOptions{Size: 16 << 20}
	m := mount(t, opt)
	if m.daemon == nil {
		t.Skipf("%s is set: the filesystem there is not to be filled", envDir)
	}
	lost := 0
	for _, dir := range []string{m.Dir, m.Ref} {
		sizes := map[string]int{"tiny": 100, "page": 4096, "small": 100_000, "large": 1 << 20}
		// Each way has files of its own: what it is owed is not to come from
		// what another one did to them before.
		for how := range rewrites {
			for name, size := range sizes {
				must(t, os.WriteFile(filepath.Join(dir, how+" "+name), payload(0, int64(size)), 0o600))
			}
		}
		for i := range 2 {
			cmd := roleCommand(t, "grabber", client{Dir: dir, N: i})
			cmd.Stderr = os.Stderr
			must(t, cmd.Start())
			t.Cleanup(func() {
				cmd.Process.Kill()
				cmd.Wait()
			})
		}
		poll(t, 3*time.Minute, "the filesystem to be full", func() bool { return free(t, dir)[0] == 0 })
		for how, rewrite := range rewrites {
			for name, size := range sizes {
				path := filepath.Join(dir, how+" "+name)
				for n := range rounds {
					b := payload(uint64(n), int64(size))
					if n%2 == 0 { // the largest growth, and back
						b = payload(uint64(n), int64(size+256<<10))
					}
					err := rewrite(path, b)
					if dir == m.Ref {
						if err != nil {
							lost++
						}
						continue
					}
					if err != nil {
						t.Fatalf("%s of %s, %d bytes to %d: %v", how, name, size, len(b), err)
					}
					if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
						t.Fatalf("%s of %s: read %d bytes back, %v", how, name, len(got), err)
					}
				}
			}
		}
		// docker's way loses nothing: what it cannot write it does not rename.
		if dir == m.Dir {
			if err := os.WriteFile(filepath.Join(dir, "config.json.tmp"), payload(0, 50_000), 0o600); err == nil {
				t.Error("a new file of 50 KB could be written on a full filesystem: was it?")
			}
		}
	}
	if lost == 0 {
		t.Error("on tmpfs no rewrite was refused either: the test does not test")
	}
}

// TestRewriteManyWhenFull grows many small files at once on a full filesystem:
// each is entitled to it.
func TestRewriteManyWhenFull(t *testing.T) {
	m := mount(t, mountOptions{Size: 4 << 20})
	if m.daemon == nil {
		t.Skipf("%s is set: the filesystem there is not to be filled", envDir)
	}
	const files = 200
	for i := range files {
		must(t, os.WriteFile(filepath.Join(m.Dir, fmt.Sprintf("token-%d", i)), payload(uint64(i), 3000), 0o600))
	}
	fd, err := unix.Open(filepath.Join(m.Dir, "rest"), unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	must(t, err)
	defer unix.Close(fd)
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	if err != unix.ENOSPC {
		t.Fatal(err)
	}
	for round := range 3 {
		for i := range files {
			path := filepath.Join(m.Dir, fmt.Sprintf("token-%d", i))
			b := payload(uint64(i+round), 250_000)
			if err := rewrites["O_TRUNC, one write"](path, b); err != nil {
				t.Fatalf("round %d, file %d: %v; %s", round, i, err, usage(t, m.Dir))
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
				t.Fatalf("round %d, file %d: read %d bytes back, %v", round, i, len(got), err)
			}
		}
	}
}

// TestIndexIsLimited makes what is no contents, and in memory all the same: there is
// an end to it, it takes nothing from the rest, and what is removed comes back.
func TestIndexIsLimited(t *testing.T) {
	const size, inodes, target = 2 << 20, 50, 4000
	m := mount(t, mountOptions{Size: size, Inodes: inodes})
	if m.daemon == nil {
		t.Skipf("%s is set: the filesystem there is not to be filled", envDir)
	}
	path := func(name string, i int) string { return filepath.Join(m.Dir, fmt.Sprint(name, i)) }
	must(t, os.WriteFile(path("f", 0), nil, 0o600))
	before := usage(t, m.Dir)
	fill := func(what string, most int, add, remove func(i int) error) {
		for range 2 {
			n := 0
			var err error
			for ; err == nil && n <= most; n++ {
				err = add(n)
			}
			if n--; err != unix.ENOSPC || n < most/2 {
				t.Fatalf("%s: %d, then %v; at most %d", what, n, err, most)
			}
			must(t, remove(n-1))
			must(t, os.WriteFile(path("g", 0), []byte("token"), 0o600))
			must(t, os.Remove(path("g", 0)))
			for i := range n - 1 {
				must(t, remove(i))
			}
			// The kernel lets go of removed symlinks a little later.
			after, deadline := usage(t, m.Dir), time.Now().Add(10*time.Second)
			for ; after != before && time.Now().Before(deadline); after = usage(t, m.Dir) {
				time.Sleep(time.Millisecond)
			}
			if after != before {
				t.Fatalf("%s: %s; before them %s", what, after, before)
			}
		}
	}
	attr := func(i int) string { return fmt.Sprint("user.", strings.Repeat("x", 200), i) }
	fill("attributes without a value", inodes,
		func(i int) error { return unix.Setxattr(path("f", 0), attr(i), nil, 0) },
		func(i int) error { return unix.Removexattr(path("f", 0), attr(i)) })
	fill("long symlinks", size/32/target,
		func(i int) error { return unix.Symlink(strings.Repeat("t", target), path("l", i)) },
		func(i int) error { return os.Remove(path("l", i)) })
}
