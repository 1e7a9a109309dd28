package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a client breaks without, one test each; the processes of clients_test.go
// add the races. Each runs on tmpfs too, which shows that it asks for no more.

// onBoth runs a test on tokenfs and on the tmpfs beside it.
func onBoth(t *testing.T, test func(t *testing.T, dir string)) {
	m := mount(t, mountOptions{})
	t.Run("tokenfs", func(t *testing.T) { test(t, m.Dir) })
	t.Run("tmpfs", func(t *testing.T) { test(t, m.Ref) })
}

// TestMustOpenUnlinked: an inode lives as long as somebody has it, and opens
// through what he has.
func TestMustOpenUnlinked(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, lockName)
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		defer unix.Close(fd)
		must(t, writeAll(fd, []byte("4711 app.py")))
		must(t, unix.Unlink(path))
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(again)
		b := make([]byte, 100)
		if n, err := unix.Pread(again, b, 0); err != nil || string(b[:n]) != "4711 app.py" {
			t.Errorf("%q %v", b[:max(n, 0)], err)
		}
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		if st.Nlink != 0 {
			t.Errorf("nlink %d", st.Nlink)
		}
		must(t, unix.Fchmod(fd, 0o640))
		must(t, unix.Ftruncate(again, 3))
		must(t, unix.Fsync(fd))
	})
}

// TestMustExclusiveCreate: of many that create one name with O_EXCL one wins,
// and without it all get the same file.
func TestMustExclusiveCreate(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		for round := range 50 {
			var mu sync.Mutex
			var wg sync.WaitGroup
			winners, inodes := 0, map[uint64]bool{}
			start := make(chan struct{})
			for range 8 {
				wg.Go(func() {
					<-start
					fd, err := unix.Open(filepath.Join(dir, fmt.Sprintf("excl-%d", round)), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
					shared, err2 := unix.Open(filepath.Join(dir, fmt.Sprintf("shared-%d", round)), unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
					var st unix.Stat_t
					err3 := unix.Fstat(shared, &st)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						winners++
						unix.Close(fd)
					} else if err != unix.EEXIST {
						t.Errorf("O_EXCL: %v", err)
					}
					if err2 != nil || err3 != nil {
						t.Errorf("O_CREAT: %v, %v", err2, err3)
					}
					inodes[st.Ino] = true
					unix.Close(shared)
				})
			}
			close(start)
			wg.Wait()
			if winners != 1 || len(inodes) != 1 {
				t.Fatalf("round %d: %d won with O_EXCL, %d files without", round, winners, len(inodes))
			}
		}
	})
}

// TestMustInodeNumbers: one file, one number, never given again, the same by
// path and by descriptor.
func TestMustInodeNumbers(t *testing.T) {
	m := mount(t, mountOptions{})
	seen := map[uint64]bool{}
	path := filepath.Join(m.Dir, "f")
	for range 2000 {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		must(t, err)
		var a, b unix.Stat_t
		must(t, unix.Fstat(fd, &a))
		must(t, unix.Lstat(path, &b))
		if a.Ino != b.Ino || a.Dev != b.Dev {
			t.Fatalf("fstat %d:%d, lstat %d:%d", a.Dev, a.Ino, b.Dev, b.Ino)
		}
		if seen[a.Ino] {
			t.Fatalf("inode number %d is given again", a.Ino)
		}
		seen[a.Ino] = true
		must(t, unix.Rename(path, path+"2"))
		must(t, unix.Lstat(path+"2", &b))
		if a.Ino != b.Ino {
			t.Fatalf("inode number %d becomes %d by a rename", a.Ino, b.Ino)
		}
		must(t, unix.Unlink(path+"2"))
		unix.Close(fd)
	}
}

func init() {
	// locker tries each kind of lock that another process holds.
	roles["locker"] = func(args []byte) error {
		var path string
		if err := json.Unmarshal(args, &path); err != nil {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		lk := unix.Flock_t{Type: unix.F_WRLCK, Start: 1 << 30, Len: 1}
		get := lk
		err = unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &get)
		beside := unix.Flock_t{Type: unix.F_WRLCK, Start: 1<<30 + 1, Len: 1}
		fmt.Println(errName(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)), errName(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)),
			errName(unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lk)), errName(unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &beside)),
			errName(err), get.Type, int(get.Pid) == os.Getppid())
		return nil
	}
}

// TestMustLocks: flock and POSIX byte ranges exclude other processes, and end
// with the process that held them.
func TestMustLocks(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, "db")
		must(t, os.WriteFile(path, nil, 0o600))
		ask := func() string {
			out, err := roleCommand(t, "locker", path).CombinedOutput()
			if err != nil {
				t.Fatal(err, string(out))
			}
			return strings.TrimSpace(string(out))
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Flock(fd, unix.LOCK_EX))
		must(t, unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 1 << 30, Len: 1}))
		if got, want := ask(), "EAGAIN EAGAIN EAGAIN ok ok 1 true"; got != want {
			t.Errorf("with both locks held: %s, want %s", got, want)
		}
		must(t, unix.Flock(fd, unix.LOCK_SH))
		if got, want := ask(), "EAGAIN ok EAGAIN ok ok 1 true"; got != want {
			t.Errorf("with a shared flock: %s, want %s", got, want)
		}
		must(t, unix.Close(fd))
		if got, want := ask(), "ok ok ok ok ok 2 false"; got != want {
			t.Errorf("after the close: %s, want %s", got, want)
		}
		holder := exec.Command("flock", "-x", path, "sleep", "60")
		if err := holder.Start(); err != nil {
			t.Skipf("flock(1): %v", err)
		}
		poll(t, 10*time.Second, "the other process to lock", func() bool { return strings.HasPrefix(ask(), "EAGAIN") })
		holder.Process.Kill()
		holder.Wait()
		exec.Command("pkill", "-P", fmt.Sprint(holder.Process.Pid)).Run()
	})
}

// TestMustRewriteInPlace: O_TRUNC, ftruncate, O_APPEND and pwrite, and what is
// cut off never comes back.
func TestMustRewriteInPlace(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, cacheName)
		secret := bytes.Repeat([]byte("secret"), 3000)
		must(t, os.WriteFile(path, secret, 0o600))
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		must(t, unix.Ftruncate(fd, 10))
		must(t, unix.Ftruncate(fd, 18000))
		b, err := os.ReadFile(path)
		if err != nil || len(b) != 18000 || string(b[:10]) != "secretsecr" || len(bytes.Trim(b[10:], "\x00")) > 0 {
			t.Errorf("after cutting and growing there is %q... (%d bytes, %v)", b[:20], len(b), err)
		}
		_, err = unix.Pwrite(fd, []byte("x"), 20000)
		must(t, err)
		must(t, rewrite(path, unix.O_WRONLY|unix.O_TRUNC, 0, []byte("new")))
		must(t, rewrite(path, unix.O_WRONLY|unix.O_APPEND, 0, []byte("er")))
		if n, err := unix.Pread(fd, b, 0); err != nil || string(b[:n]) != "newer" {
			t.Errorf("an old descriptor reads %q, %v", b[:max(n, 0)], err)
		}
		if n, err := unix.Pread(fd, b, 5000); n != 0 || err != nil {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		// Many append at once: nothing is lost.
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
				}
				defer unix.Close(fd)
				for range 200 {
					if err := writeAll(fd, []byte("0123456789")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if b, err := os.ReadFile(path); err != nil || string(b) != "newer"+strings.Repeat("0123456789", 800) {
			t.Errorf("four processes appended 8000 bytes: %d, %v", len(b)-5, err)
		}
	})
}

// TestMustRenameOver: who has the old file open keeps it, whole.
func TestMustRenameOver(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		path, tmp := filepath.Join(dir, "config.json"), filepath.Join(dir, "config.json123")
		must(t, os.WriteFile(path, []byte("old"), 0o600))
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		must(t, os.WriteFile(tmp, []byte("new contents"), 0o600))
		if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != unix.EEXIST {
			t.Errorf("RENAME_NOREPLACE: %v, want EEXIST", err)
		}
		must(t, unix.Rename(tmp, path))
		b := make([]byte, 20)
		if n, err := unix.Pread(fd, b, 0); err != nil || string(b[:n]) != "old" {
			t.Errorf("the old file reads %q, %v", b[:max(n, 0)], err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "new contents" {
			t.Errorf("the new file reads %q, %v", b, err)
		}
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
		if err := unix.Rename(path, filepath.Join(dir, "d")); err != unix.EISDIR {
			t.Errorf("over a directory: %v", err)
		}
		if err := unix.Rename(path, "/proc/elsewhere"); err != unix.EXDEV {
			t.Errorf("to another filesystem: %v, want EXDEV", err)
		}
	})
}

// TestMustTimes: mtime is the time of the write, in nanoseconds; what utimensat
// sets stays, whatever is closed or released later.
func TestMustTimes(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, cacheName)
		fine := false
		for range 20 {
			var tick unix.Timespec
			must(t, unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &tick))
			before := time.Unix(tick.Unix())
			must(t, rewrite(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600, []byte("token")))
			after := time.Now()
			st, err := os.Stat(path)
			must(t, err)
			// tmpfs takes the clock's last tick, which may be long ago on a busy machine
			if m := st.ModTime(); m.Before(before) || m.After(after) {
				t.Errorf("written between %v and %v, mtime %v", before, after, m)
			}
			fine = fine || st.ModTime().Nanosecond()%1000 != 0
		}
		var fs unix.Statfs_t
		must(t, unix.Statfs(dir, &fs))
		if !fine && fs.Type != unix.TMPFS_MAGIC { // the tick may be round
			t.Error("mtime comes in microseconds")
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, writeAll(fd, []byte("more")))
		when := unix.Timespec{Sec: 1700000000, Nsec: 123456789}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, 0))
		must(t, unix.Fsync(fd))
		must(t, unix.Close(fd))
		for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
			var st unix.Stat_t
			must(t, unix.Stat(path, &st))
			if st.Mtim != when {
				t.Fatalf("mtime is %v, set to %v: the release came later and moved it", st.Mtim, when)
			}
		}
	})
}

// TestMustTrees: nested directories, odd names, symlinks out of the mount, d_type
// and removal.
func TestMustTrees(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		for round := range 3 {
			deep := filepath.Join(dir, "git", "https", "dev.azure.com:443", "a b@c", strings.Repeat("x", 255))
			must(t, os.MkdirAll(deep, 0o700))
			must(t, os.MkdirAll(deep, 0o700))
			must(t, os.WriteFile(filepath.Join(deep, "account.credential"), []byte("s"), 0o600))
			must(t, os.Symlink("/usr/bin", filepath.Join(dir, "git", "bin")))
			must(t, os.Symlink("https", filepath.Join(dir, "git", "relative")))
			if _, err := os.Stat(filepath.Join(dir, "git", "bin", "env")); err != nil {
				t.Error(err)
			}
			if err := os.Mkdir(filepath.Join(dir, strings.Repeat("x", 256)), 0o700); !errors.Is(err, unix.ENAMETOOLONG) {
				t.Error(err)
			}
			entries, err := os.ReadDir(filepath.Join(dir, "git"))
			must(t, err)
			if len(entries) != 3 || entries[0].Type() != os.ModeSymlink || entries[1].Type() != os.ModeDir || entries[2].Type() != os.ModeSymlink {
				t.Errorf("round %d: %v", round, entries)
			}
			if err := unix.Rmdir(filepath.Join(dir, "git")); err != unix.ENOTEMPTY {
				t.Error(err)
			}
			must(t, os.RemoveAll(filepath.Join(dir, "git")))
			if _, err := os.Stat("/usr/bin/env"); err != nil {
				t.Fatal("a symlink was followed in the removal")
			}
		}
	})
}

// TestMustSmallThings: mode 000, chown to oneself, fsync of everything, no
// attributes, no terminal, free space, and programs run.
func TestMustSmallThings(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		lock := filepath.Join(dir, "config.lock")
		fd, err := unix.Open(lock, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		if st.Mode != unix.S_IFREG {
			t.Errorf("created with mode 000: %o", st.Mode)
		}
		must(t, unix.Fchown(fd, os.Getuid(), os.Getgid()))
		must(t, unix.Fsync(fd))
		must(t, unix.Fdatasync(fd))
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != unix.ENOTTY {
			t.Errorf("ioctl TCGETS: %v", err)
		}
		unix.Close(fd)
		d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(d)
		must(t, unix.Fsync(d))
		must(t, unix.Fdatasync(d))
		if n, err := unix.Listxattr(lock, make([]byte, 100)); n != 0 || err != nil {
			t.Errorf("listxattr: %d, %v", n, err)
		}
		if _, err := unix.Getxattr(lock, "trusted.a", nil); err != unix.ENODATA {
			t.Errorf("getxattr: %v", err)
		}
		var fs unix.Statfs_t
		must(t, unix.Statfs(dir, &fs))
		if fs.Bavail == 0 || fs.Bsize == 0 || fs.Ffree == 0 {
			t.Errorf("statfs: %+v", fs)
		}
		script := filepath.Join(dir, "bicep")
		must(t, os.WriteFile(script, []byte("#!/bin/sh\necho ran\n"), 0o700))
		if out, err := exec.Command(script).Output(); err != nil || string(out) != "ran\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// TestMustFailClosed: nothing can be written where the mount was, a dead daemon
// is an error and not an empty directory, and a busy mount goes all the same.
func TestMustFailClosed(t *testing.T) {
	const ann = 1
	visit := func(m *mounted) string {
		out, err := personCommand(t, ann, "visitor", m.Dir).CombinedOutput()
		if err != nil {
			return err.Error() + ": " + string(out)
		}
		return string(out)
	}
	t.Run("unmounted", func(t *testing.T) {
		m := mount(t, mountOptions{UID: people[ann].uid})
		m.stop(t)
		if got := visit(m); !strings.HasPrefix(got, "ok ok EACCES,") {
			t.Errorf("stat, open, mkdir of the mountpoint: %s, want ok ok EACCES", got)
		}
	})
	t.Run("killed", func(t *testing.T) {
		m := mount(t, mountOptions{UID: people[ann].uid})
		path := filepath.Join(m.Dir, "visited")
		if got := visit(m); !strings.HasPrefix(got, "ok ok ok,") {
			t.Errorf("stat, open, mkdir of the mount: %s", got)
		}
		m.kill()
		poll(t, 10*time.Second, "ENOTCONN of a mount whose daemon is dead", func() bool {
			return strings.Contains(visit(m), unix.ENOTCONN.Error())
		})
		unix.Unmount(m.Dir, unix.MNT_DETACH)
		if err := unix.Lstat(path, new(unix.Stat_t)); err != unix.ENOENT {
			t.Errorf("beneath the mount: %v", err)
		}
	})
	t.Run("busy", func(t *testing.T) {
		m := mount(t, mountOptions{UID: 0, Size: 1 << 20})
		fd, err := unix.Open(filepath.Join(m.Dir, "telemetry.log"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		defer unix.Close(fd)
		must(t, writeAll(fd, []byte("secret")))
		m.stop(t)
		if n, err := unix.Pread(fd, make([]byte, 10), 0); err == nil {
			t.Errorf("an old descriptor still reads %d bytes", n)
		}
	})
}
