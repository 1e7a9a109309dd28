package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A rival is a filesystem to measure, tokenfs among them.
type rival struct {
	name    string
	what    string   // for the report: version and the options it runs with
	absent  string   // why it is not measured
	make    []string // a command that makes a new store, or none
	serve   []string // a command that serves it in the foreground
	input   string   // what both are told on standard input
	version []string

	dir    string // of the mount
	server *exec.Cmd
	ended  <-chan struct{}
	said   limited
}

const passphrase = "correct horse battery staple"

// rivals, tokenfs first; other is a build to compare it with, or none. Each runs with the options that its documentation
// shows, and with those that keep it in the foreground and take the passphrase.
func rivals(other string) []*rival {
	list := []*rival{
		{name: ours, serve: []string{"TOOLS/tokenfs", "mount", "-f", "MOUNT"},
			version: []string{"TOOLS/tokenfs", "version"}},
		{name: "tmpfs"},
		{name: "floor", what: "floor/floor.c, libfuse", serve: []string{"TOOLS/floor", "-f", "MOUNT"},
			version: []string{"TOOLS/floor", "--version"}},
		{name: "loopback", what: "go-fuse's example/loopback", serve: []string{"TOOLS/loopback", "-q", "MOUNT", "STORE"}},
		{name: "gocryptfs", make: []string{"gocryptfs", "-q", "-init", "-passfile", "PASSFILE", "STORE"},
			serve:   []string{"gocryptfs", "-q", "-fg", "-passfile", "PASSFILE", "STORE", "MOUNT"},
			version: []string{"gocryptfs", "-version"}},
		{name: "securefs", make: []string{"securefs", "create", "--pass", passphrase, "STORE"},
			serve:   []string{"securefs", "mount", "--pass", passphrase, "STORE", "MOUNT"},
			version: []string{"dpkg-query", "-W", "-f", "${Package} ${Version}", "securefs"}},
		{name: "encfs", serve: []string{"encfs", "-f", "--standard", "--stdinpass", "STORE", "MOUNT"}, input: passphrase,
			version: []string{"encfs", "--version"}},
		{name: "cryfs", serve: []string{"cryfs", "-f", "STORE", "MOUNT"}, input: passphrase,
			version: []string{"cryfs", "--version"}},
	}
	if other != "" {
		list = append(list, &rival{name: "other", serve: []string{"TOOLS/other", "mount", "-f", "MOUNT"},
			version: []string{"TOOLS/other", "version"}})
	}
	return list
}

const ours = "tokenfs"

// bench is the directory that everything is mounted in.
type bench struct {
	top   string // on tmpfs
	tools string
	marks *os.File // where clients write marks, while requests are traced

	starting sync.Mutex // kept by end: no more commands
}

// args puts in what the commands above leave open: STORE is a directory on
// tmpfs, TOOLS that of the programs built for the bench.
func (b *bench) args(r *rival, list []string) []string {
	replaced := strings.NewReplacer("STORE", b.store(r), "MOUNT", r.dir, "TOOLS", b.tools, "PASSFILE", b.top+"/pass")
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = replaced.Replace(a)
	}
	return out
}

func (b *bench) store(r *rival) string { return b.top + "/" + r.name + ".store" }

// describe fills in the version and the options, or why the rival is absent.
func (b *bench) describe(r *rival) {
	if len(r.version) > 0 {
		out, err := exec.Command(b.args(r, r.version)[0], b.args(r, r.version)[1:]...).CombinedOutput()
		if err != nil {
			r.absent = fmt.Sprintf("cannot be run here: %v", err)
			return
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		r.what = strings.TrimSpace(r.what + " " + line)
	}
	if len(r.serve) > 0 {
		if _, err := exec.LookPath(b.args(r, r.serve)[0]); err != nil {
			r.absent = "not there: " + err.Error()
			return
		}
		options := append([]string{filepath.Base(r.serve[0])}, r.serve[1:]...)
		r.what = strings.TrimSpace(r.what + ": " + strings.ReplaceAll(strings.Join(options, " "), passphrase, "..."))
	}
	if r.name == "tmpfs" {
		r.what = "the kernel's"
	}
}

// create makes the store of a rival, empty.
func (b *bench) create(r *rival) error {
	r.dir = b.top + "/" + r.name
	// cryfs remembers in its home which store was where, and refuses another one there.
	if err := os.RemoveAll(b.top + "/.local"); err != nil {
		return err
	}
	for _, dir := range []string{b.store(r), r.dir} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, user, user)); err != nil {
			return err
		}
	}
	if len(r.make) == 0 {
		return nil
	}
	args := b.args(r, r.make)
	if out, err := b.asUser(exec.Command(args[0], args[1:]...)).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v: %s", r.make[0], err, out)
	}
	return nil
}

// user is who everything runs as: what a filesystem may do as root (go-fuse's
// loopback hands the kernel its file, which then reads that itself) is nothing
// to users.
const user = 65534

// asUser makes a command run as the user.
func (b *bench) asUser(cmd *exec.Cmd) *exec.Cmd {
	b.starting.Lock()
	defer b.starting.Unlock()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	cmd.Dir = b.top
	cmd.Env = append(os.Environ(), "CRYFS_FRONTEND=noninteractive", "CRYFS_NO_UPDATE_CHECK=true", "HOME="+b.top)
	return cmd
}

// start mounts a rival and returns how long it took until it was used.
func (b *bench) start(r *rival) (time.Duration, error) {
	if len(r.serve) == 0 {
		return 0, nil
	}
	args := b.args(r, r.serve)
	r.said = limited{}
	r.server = b.asUser(exec.Command(args[0], args[1:]...))
	r.server.Stdin = strings.NewReader(r.input + "\n")
	r.server.Stdout, r.server.Stderr = &r.said, &r.said
	r.server.WaitDelay = time.Second
	watcher := b.asUser(exec.Command("/proc/self/exe", "await", r.dir))
	out, err := watcher.StdoutPipe()
	if err == nil {
		err = watcher.Start()
	}
	if err != nil {
		return 0, err
	}
	defer watcher.Wait()
	lines := bufio.NewReader(out)
	lines.ReadString('\n') // it is watching
	began := monotonic()
	if err := r.server.Start(); err != nil {
		watcher.Process.Kill()
		r.server = nil
		return 0, err
	}
	ended := make(chan struct{})
	r.ended = ended
	go func(server *exec.Cmd) {
		server.Wait()
		watcher.Process.Kill()
		close(ended)
	}(r.server)
	line, err := lines.ReadString('\n')
	var ready int64
	if _, e := fmt.Sscan(line, &ready); err != nil || e != nil {
		r.server.Process.Kill()
		<-r.ended
		r.server = nil
		return 0, fmt.Errorf("%s did not mount: %s", args[0], r.said.b)
	}
	return time.Duration(ready - began), nil
}

func monotonic() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// await says when a file can be looked for on dir, and gives up after three minutes.
func await(args []string) error {
	dir := args[0]
	fmt.Println("watching")
	for began := monotonic(); monotonic()-began < int64(3*time.Minute); time.Sleep(100 * time.Microsecond) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.FUSE_SUPER_MAGIC {
			continue
		}
		var f unix.Stat_t
		if errors.Is(unix.Stat(dir+"/nothing", &f), unix.ENOENT) {
			fmt.Println(monotonic())
			return nil
		}
	}
	return errors.New("nothing was mounted on " + dir)
}

// stop unmounts a rival and waits until it has ended.
func (b *bench) stop(r *rival) error {
	if r.server == nil {
		return nil
	}
	defer func() { r.server = nil }()
	err := unix.Unmount(r.dir, 0)
	if err != nil {
		err = unix.Unmount(r.dir, unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) {
		err = nil // it has ended and unmounted already
	}
	kill := time.AfterFunc(20*time.Second, func() { r.server.Process.Kill() })
	<-r.ended
	kill.Stop()
	return err
}

// family are the processes that serve a rival.
func (r *rival) family() (pids []int) {
	if r.server == nil {
		return nil
	}
	pids = []int{r.server.Process.Pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		for _, t := range tasks {
			list, _ := os.ReadFile(t)
			for _, f := range bytes.Fields(list) {
				var pid int
				if _, err := fmt.Sscan(string(f), &pid); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}
