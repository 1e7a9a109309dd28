package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

const (
	resumeQuota  = 32 << 20
	resumeInodes = 4 << 10
)

func resumeConfig() Config {
	return Config{Quota: resumeQuota, Inodes: resumeInodes, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Logf: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "worker: "+format+"\n", args...) }}
}

// The worker's descriptors: /dev/fuse, then those of the Memory.
const firstFD = 3

func runWorker() error {
	crypt.Quiet()
	fds := crypt.FDs{Keys: firstFD + 1, Arena: firstFD + 2, Slots: firstFD + 3, Secret: os.Args[1] == "secret"}
	mem, err := crypt.AttachMemory(MemoryConfig(resumeQuota, resumeInodes, crypt.SecretmemAuto), fds)
	if err != nil {
		return err
	}
	cfg := resumeConfig()
	notifier := NewNotifier(firstFD, cfg.Inodes, cfg.Logf)
	cfg.Notify = func(n Notice) { notifier.Add(n) }
	s, err := New(firstFD, mem, cfg)
	if err != nil {
		return err
	}
	return s.Serve(nil)
}

// keeper holds what survives the workers it starts and kills.
type keeper struct {
	t    *testing.T
	dir  string
	fuse int
	mem  *crypt.Memory

	worker *exec.Cmd
}

func newKeeper(t *testing.T) *keeper {
	if testing.Short() {
		t.Skip("NOT RUN with -short: it mounts")
	}
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: mounting without a helper needs root")
	}
	k := &keeper{t: t, dir: t.TempDir()}
	var err error
	if k.fuse, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		t.Skipf("NOT RUN: /dev/fuse: %v", err)
	}
	k.mem, err = crypt.NewMemory(MemoryConfig(resumeQuota, resumeInodes, crypt.SecretmemAuto))
	if err != nil {
		t.Fatal(err)
	}
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,max_read=131072", k.fuse)
	if err := unix.Mount("tokenfs-test", k.dir, "fuse.tokenfs-test", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		t.Fatalf("mounting: %v", err)
	}
	t.Cleanup(func() {
		unix.Unmount(k.dir, unix.MNT_DETACH)
		k.kill()
		unix.Close(k.fuse)
		k.mem.Close()
	})
	k.start()
	return k
}

func (k *keeper) start() {
	fds := k.mem.FDs()
	kind := "plain"
	if fds.Secret {
		kind = "secret"
	}
	cmd := exec.Command("/proc/self/exe", kind)
	cmd.Env = append(os.Environ(), roleVar+"=worker", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	for _, fd := range []int{k.fuse, fds.Keys, fds.Arena, fds.Slots} {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			k.t.Error(err)
			return
		}
		f := os.NewFile(uintptr(dup), "state")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return
	}
	k.worker = cmd
}

func (k *keeper) kill() {
	k.worker.Process.Kill()
	k.worker.Wait()
}

// restart is what happens to a worker that crashed.
func (k *keeper) restart() {
	k.kill()
	k.start()
}

// TestResume kills the serving process again and again at random moments.
// Another one opens the same memory and goes on: no client sees an error, and
// every operation took effect exactly once.
func TestResume(t *testing.T) {
	kills := 60
	if v := os.Getenv("TOKENFS_TEST_KILLS"); v != "" {
		kills, _ = strconv.Atoi(v)
	}
	k := newKeeper(t)
	var clients sync.WaitGroup
	stop := filepath.Join(t.TempDir(), "stop")
	for i := range 6 {
		cmd := exec.Command("/proc/self/exe", filepath.Join(k.dir, fmt.Sprint("client", i)), stop)
		cmd.Env = append(os.Environ(), roleVar+"=client")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("client %d: %v: %s", i, err, out.Bytes())
			} else {
				t.Logf("client %d: %s", i, bytes.TrimSpace(out.Bytes()))
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(5+rand.IntN(25)) * time.Millisecond) // at random moments, not for something to happen
		k.restart()
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
	if t.Failed() {
		return
	}
	// The successor's books must balance: with everything removed, only the
	// root is left once the kernel has forgotten the rest.
	deadline := time.Now().Add(10 * time.Second)
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(k.dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Files-st.Ffree == 1 && st.Blocks == st.Bfree {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes and %d blocks are in use after everything was removed", st.Files-st.Ffree, st.Blocks-st.Bfree)
		}
		time.Sleep(time.Millisecond)
	}
}

// runClient works in dir until the file stop exists, and checks every result.
func runClient(dir, stop string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	c := &client{dir: dir, rng: rand.New(rand.NewPCG(uint64(os.Getpid()), 1))}
	rounds := 0
	for ; ; rounds++ {
		if _, err := os.Lstat(stop); err == nil {
			break
		}
		if err := c.round(uint64(rounds)); err != nil {
			return fmt.Errorf("round %d: %w", rounds, err)
		}
	}
	fmt.Println(rounds, "rounds")
	return os.RemoveAll(dir)
}

type client struct {
	dir string
	rng *rand.Rand
}

func (c *client) path(name string) string { return filepath.Join(c.dir, name) }

func (c *client) round(i uint64) error {
	for _, f := range []func(uint64) error{c.save, c.appendTo, c.lock, c.replace, c.tree, c.unlinked, c.shrink, c.attribute} {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func (c *client) check(name string, want []byte) error {
	got, err := os.ReadFile(c.path(name))
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s holds %d bytes that are not the %d written", name, len(got), len(want))
	}
	return err
}

func (c *client) save(i uint64) error {
	want := pattern(i, c.rng.IntN(40000))
	if err := os.WriteFile(c.path("cache"), want, 0o600); err != nil {
		return err
	}
	return c.check("cache", want)
}

// appendTo fails if an append is lost or happens twice.
func (c *client) appendTo(i uint64) error {
	f, err := os.OpenFile(c.path("journal"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(binary.LittleEndian.AppendUint64(nil, i)); err != nil {
		return err
	}
	b, err := os.ReadFile(c.path("journal"))
	if err != nil {
		return err
	}
	if len(b) != int(i+1)*8 {
		return fmt.Errorf("journal has %d bytes after %d appends of 8", len(b), i+1)
	}
	for j := range i + 1 {
		if binary.LittleEndian.Uint64(b[8*j:]) != j {
			return fmt.Errorf("journal entry %d is wrong", j)
		}
	}
	return nil
}

func (c *client) lock(uint64) error {
	f, err := os.OpenFile(c.path("lockfile"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := os.OpenFile(c.path("lockfile"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("locked twice: %v", err)
	}
	return os.Remove(c.path("lockfile"))
}

func (c *client) replace(i uint64) error {
	want := pattern(i, 5000)
	if err := os.WriteFile(c.path("temp"), want, 0o600); err != nil {
		return err
	}
	if err := os.Rename(c.path("temp"), c.path("final")); err != nil {
		return err
	}
	if _, err := os.Lstat(c.path("temp")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("temp is still there: %v", err)
	}
	return c.check("final", want)
}

func (c *client) tree(uint64) error {
	if err := os.MkdirAll(c.path("d/e"), 0o700); err != nil {
		return err
	}
	for _, err := range []error{
		os.Link(c.path("final"), c.path("d/e/hard")),
		os.Symlink("e/hard", c.path("d/soft")),
		c.check("d/soft", must(os.ReadFile(c.path("final")))),
		os.Remove(c.path("d/soft")), os.Remove(c.path("d/e/hard")), os.Remove(c.path("d/e")), os.Remove(c.path("d")),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func must[T any](v T, _ error) T { return v }

// unlinked goes on using a file that has no name.
func (c *client) unlinked(i uint64) error {
	f, err := os.OpenFile(c.path("gone"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(c.path("gone")); err != nil {
		return err
	}
	want, got := pattern(i, 9000), make([]byte, 9000)
	if _, err := f.Write(want); err != nil {
		return err
	}
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("an unlinked file lost its contents: %v", err)
	}
	return nil
}

func (c *client) shrink(i uint64) error {
	want := pattern(i, 20000)
	if err := os.WriteFile(c.path("shrunk"), want, 0o600); err != nil {
		return err
	}
	n := 1 + c.rng.IntN(len(want)-1)
	if err := os.Truncate(c.path("shrunk"), int64(n)); err != nil {
		return err
	}
	return c.check("shrunk", want[:n])
}

func (c *client) attribute(i uint64) error {
	want := pattern(i, 100)
	if err := unix.Setxattr(c.path("final"), "user.test", want, unix.XATTR_CREATE); err != nil {
		return err
	}
	got := make([]byte, 200)
	n, err := unix.Getxattr(c.path("final"), "user.test", got)
	if err != nil || !bytes.Equal(got[:n], want) {
		return fmt.Errorf("attribute: %v", err)
	}
	return unix.Removexattr(c.path("final"), "user.test")
}
