package conformance

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/needs"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/process"
)

// Environment of re-executed test binaries.
const (
	envDir       = "TOKENFS_TEST_DIR"       // test this directory, mount nothing
	envNamespace = "TOKENFS_TEST_NAMESPACE" // we are in our own mount namespace
	envRole      = "TOKENFS_TEST_ROLE"      // we are a daemon or a client process
	envEpoch     = "TOKENFS_TEST_EPOCH"     // when the run began
	envArgs      = "TOKENFS_TEST_ROLE_ARGS" // its arguments, JSON
)

// TestMain gives the tests a mount namespace of their own, so that no crash of
// theirs leaves a mount behind, and turns re-executions into daemons and clients.
func TestMain(m *testing.M) {
	lifecycle.BeWorker()
	if role := os.Getenv(envRole); role != "" {
		os.Exit(playRole(role))
	}
	flag.Parse()
	if os.Getenv(envDir) == "" {
		notHere = missing()
	}
	if notHere != "" || testing.Short() {
		os.Exit(m.Run()) // the tests that mount skip themselves and say why
	}
	if os.Getenv(envNamespace) == "" && os.Geteuid() == 0 {
		os.Exit(inNamespace())
	}
	if os.Getenv(envNamespace) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "conformance: making mounts private:", err)
			os.Exit(1)
		}
		if err := shareDevice(); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			os.Exit(1)
		}
	}
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// notHere is what keeps the tests from running here.
var notHere string

func skipIfNotHere(t testing.TB) {
	t.Helper()
	if notHere != "" {
		t.Skip("NOT RUN: " + notHere)
	}
	if testing.Short() {
		t.Skip("NOT RUN with -short: it mounts")
	}
}

// missing says what keeps the tests from running here.
func missing() string {
	if os.Geteuid() != 0 {
		return "needs root, to mount tokenfs and the tmpfs that it is compared with; " +
			"run as root, or set " + envDir + " to a directory on the filesystem to test"
	}
	return needs.NoFUSE()
}

func inNamespace() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance: no mount namespace of our own (needs CAP_SYS_ADMIN):", err)
		return 1
	}
	return 0
}

// shareDevice lets every user open /dev/fuse, as distributions do and bare
// containers do not: in our namespace there is a node of our own in its place.
func shareDevice() error {
	var st unix.Stat_t
	if err := unix.Stat("/dev/fuse", &st); err != nil || st.Mode&0o666 == 0o666 {
		return err
	}
	dir, err := os.MkdirTemp("", "tokenfs-dev-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	node := filepath.Join(dir, "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(st.Rdev)); err != nil {
		return fmt.Errorf("mknod of a /dev/fuse for all: %w", err)
	}
	if err := os.Chmod(node, 0o666); err != nil {
		return err
	}
	if err := unix.Mount(node, "/dev/fuse", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount of a /dev/fuse for all: %w", err)
	}
	return nil
}

// mountOptions are what a test may ask of the daemon.
type mountOptions struct {
	Mountpoint string
	Size       int64 // bytes, 0 for the default of 64 MiB
	Inodes     int   // 0 for the default of 64 Ki
	AllowOther bool
	PlainSaves bool   // no drafts
	UID        uint32 // who runs the daemon
}

const (
	defaultSize   = 64 << 20
	defaultInodes = 64 << 10
)

// mounted is a directory on tokenfs and its twin on a tmpfs of the same limits.
// The two paths are equally long, so that PATH_MAX is reached at the same name.
type mounted struct {
	Dir, Ref string
	daemon   *exec.Cmd
	exited   chan error
	killed   bool
}

// mount starts a daemon for the test and stops it at the end.
func mount(t testing.TB, opt mountOptions) *mounted {
	t.Helper()
	skipIfNotHere(t)
	given := os.Getenv(envDir)
	if given != "" && opt.special() {
		t.Skipf("NOT RUN: %s is set: no mount with %+v here", envDir, opt)
	}
	base := tempDir(t)
	if opt.UID != 0 { // the daemon keeps its lock and socket beside the mount
		if err := os.Chown(base, int(opt.UID), int(opt.UID)); err != nil {
			t.Fatal(err)
		}
	}
	m := &mounted{Dir: filepath.Join(base, "tokenfs"), Ref: filepath.Join(base, "tmpfs-0")}
	mountReference(t, m.Ref, opt)
	if given != "" {
		sub, err := os.MkdirTemp(given, "conformance-")
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(sub, 0o755)
		t.Cleanup(func() { remove(t, sub) })
		m.Dir = sub
		return m
	}
	if err := os.Mkdir(m.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if opt.UID != 0 {
		if err := os.Chown(m.Dir, int(opt.UID), int(opt.UID)); err != nil {
			t.Fatal(err)
		}
	}
	opt.Mountpoint = m.Dir
	m.start(t, opt)
	return m
}

func (opt mountOptions) special() bool { return opt != (mountOptions{}) }

// mountReference mounts the tmpfs, or makes a plain directory on one where we
// may not mount.
func mountReference(t testing.TB, dir string, opt mountOptions) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
			t.Fatalf("%s is no tmpfs, and only root can mount one: set TMPDIR=/dev/shm, or run as root", dir)
		}
		return
	}
	size, inodes := opt.Size, opt.Inodes
	if size == 0 {
		size = defaultSize
	}
	if inodes == 0 {
		inodes = defaultInodes
	}
	data := fmt.Sprintf("size=%d,nr_inodes=%d,mode=700,huge=never", size, inodes)
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data)
	if err == unix.EINVAL { // huge= needs a kernel with huge pages
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, strings.TrimSuffix(data, ",huge=never"))
	}
	if err != nil {
		t.Fatalf("mounting the reference tmpfs on %s: %v", dir, err)
	}
	if opt.UID != 0 {
		os.Chown(dir, int(opt.UID), int(opt.UID))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

// tempDir is t.TempDir, but other users may pass through it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tokenfs-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, dir) })
	return dir
}

func remove(t testing.TB, dir string) {
	if err := removeAll(dir); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
}

// removeAll is os.RemoveAll, but modes keep nobody from removing what is his.
func removeAll(dir string) error {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			os.Chmod(path, 0o700) // before it is read
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// start runs the daemon and returns when the filesystem answers.
func (m *mounted) start(t testing.TB, opt mountOptions) {
	t.Helper()
	m.daemon = roleCommand(t, "daemon", opt)
	m.daemon.Stdout, m.daemon.Stderr = os.Stderr, os.Stderr
	if opt.UID != 0 {
		m.daemon.SysProcAttr = asUser(opt.UID, opt.UID)
	}
	stdin, err := m.daemon.StdinPipe() // the daemon ends when we do
	if err != nil {
		t.Fatal(err)
	}
	var before unix.Stat_t
	if err := unix.Stat(m.Dir, &before); err != nil {
		t.Fatal(err)
	}
	if err := m.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	m.exited = make(chan error, 1)
	go func() { m.exited <- m.daemon.Wait() }()
	t.Cleanup(func() {
		m.stop(t)
		stdin.Close()
	})
	poll(t, 30*time.Second, "the daemon to serve "+m.Dir, func() bool {
		select {
		case err := <-m.exited:
			m.exited <- err
			t.Fatalf("the daemon ended before it served anything: %v", err)
		default:
		}
		return isMounted(m.Dir)
	})
}

// isMounted asks mountinfo, because a stat would wait for the daemon.
func isMounted(dir string) bool {
	info, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(info), " "+dir+" ")
}

// stop ends the daemon as a user would and insists that it leaves no mount.
func (m *mounted) stop(t testing.TB) {
	t.Helper()
	if m.daemon == nil || m.daemon.Process == nil {
		return
	}
	m.daemon.Process.Signal(unix.SIGTERM)
	select {
	case err := <-m.exited:
		m.exited <- err
		if err != nil && !m.killed && !t.Failed() {
			t.Errorf("the daemon's exit: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("the daemon did not end within 20 s of SIGTERM; its threads: %s", threadStates(m.daemon.Process.Pid))
		m.kill()
	}
	if isMounted(m.Dir) {
		if !m.killed && !t.Failed() {
			t.Errorf("%s is still mounted after the daemon's end", m.Dir)
		}
		unix.Unmount(m.Dir, unix.MNT_DETACH)
	}
	m.daemon = nil
}

// kill ends the daemon without any notice.
func (m *mounted) kill() {
	m.killed = true
	m.daemon.Process.Kill()
	err := <-m.exited
	m.exited <- err
}

func threadStates(pid int) string {
	var out strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		wchan, _ := os.ReadFile(task + "/wchan")
		fmt.Fprintf(&out, "%s:%s ", filepath.Base(task), wchan)
	}
	return out.String()
}

// poll waits for a condition, and fails the test when it does not come true.
func poll(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// roleCommand re-executes the test binary as another process.
func roleCommand(t testing.TB, role string, args any) *exec.Cmd {
	t.Helper()
	if roles[role] == nil {
		t.Fatalf("no role %q", role)
	}
	js, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"="+role, envArgs+"="+string(js))
	if role == "daemon" {
		cmd.Env = append(cmd.Env, "GODEBUG="+process.RuntimeSettings) // lifecycle.Run insists
	}
	return cmd
}

// roles are the programs that the test binary can be.
var roles = map[string]func(args []byte) error{}

func init() { roles["daemon"] = daemon }

func playRole(role string) int {
	play := roles[role]
	if play == nil {
		fmt.Fprintf(os.Stderr, "no role %q\n", role)
		return 2
	}
	if err := play([]byte(os.Getenv(envArgs))); err != nil {
		fmt.Fprintf(os.Stderr, "%s[%d]: %v\n", role, os.Getpid(), err)
		return 1
	}
	return 0
}

// endWithParent turns the end of the test, however it comes, into a SIGTERM.
func endWithParent(parent io.Reader) {
	io.Copy(io.Discard, parent)
	unix.Kill(os.Getpid(), unix.SIGTERM)
}

func asUser(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
}
