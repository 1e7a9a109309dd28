package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A scene is played by this program, started anew: what it does cannot be undone.
type scene struct {
	Layers Layers
	Limit  bool
	Taken  bool // another sandbox has a listener already
	Deed   string
	File   string // one to open
}

// An outcome is of one deed, tried on many threads.
type outcome struct {
	State   State
	Threads int
	Worked  int
	Error   string
	Took    time.Duration // to enter
}

const sceneVar = "_TOKENFS_SANDBOX_SCENE"

func TestMain(m *testing.M) {
	if text := os.Getenv(sceneVar); text != "" {
		play(text)
	}
	os.Exit(m.Run())
}

var deeds = map[string]func(s scene) error{
	"open": func(s scene) error { return noError(unix.Open(s.File, unix.O_RDONLY|unix.O_CLOEXEC, 0)) },
	"write": func(s scene) error {
		return noError(unix.Open(s.File, unix.O_WRONLY|unix.O_CLOEXEC, 0))
	},
	"make": func(s scene) error {
		err := unix.Mkdir(fmt.Sprintf("%s.%d", s.File, unix.Gettid()), 0o700)
		if err == unix.EEXIST {
			err = nil
		}
		return err
	},
	"bind": func(scene) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	},
	"signal":     func(scene) error { return unix.Kill(os.Getppid(), 0) },
	"descriptor": func(scene) error { return noError(unix.MemfdCreate("x", unix.MFD_CLOEXEC)) },
	"grow": func(scene) error {
		fd, err := unix.Dup(3)
		if err == nil {
			err = unix.Ftruncate(fd, 1)
		}
		return err
	},
	"privileges": func(scene) error { // that a setuid program could give
		n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		if err == nil && n == 1 {
			err = unix.EPERM
		}
		return err
	},
	"capability": func(s scene) error { return unix.Chown(s.File, 12345, 12345) },
	"socket": func(scene) error {
		return noError(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	},
	"execute": func(scene) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"nothing": func(scene) error { return nil },
}

func noError(fd int, err error) error {
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// play enters the sandbox and does a deed on several threads, some of which
// were there before.
func play(text string) {
	var s scene
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	const each = 4
	var o outcome
	var mu sync.Mutex
	var all, ready sync.WaitGroup
	enter := make(chan struct{})
	actor := func() {
		err := deeds[s.Deed](s)
		mu.Lock()
		defer mu.Unlock()
		o.Threads++
		if err == nil {
			o.Worked++
		} else {
			o.Error = err.Error()
		}
	}
	for range each {
		ready.Add(1)
		all.Go(func() {
			lockThread()
			ready.Done()
			<-enter
			actor()
		})
	}
	ready.Wait()
	said := os.NewFile(1, "said")
	if s.Taken { // by a sandbox around this one, so on every thread
		const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
		runtime.LockOSThread()
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) // or only root may
		if _, errno := setFilter(assemble(nil, uint32(native.ID), unix.SECCOMP_RET_ALLOW), flags); errno != 0 {
			panic(errno)
		}
		runtime.UnlockOSThread()
	}
	var listener int
	begun := time.Now()
	o.State, listener = Enter(s.Layers)
	o.Took = time.Since(begun)
	if listener >= 0 {
		if err := unix.Sendmsg(guardFD, []byte("x"), unix.UnixRights(listener), nil, 0); err != nil {
			panic(err)
		}
		unix.Close(listener)
	}
	if s.Limit {
		if err := Limit(os.Getpid()); err != nil {
			o.Error = err.Error()
		}
	}
	close(enter)
	for range each {
		all.Go(func() { lockThread(); actor() })
	}
	all.Wait()
	json.NewEncoder(said).Encode(o)
	os.Exit(0)
}

// guardFD is where a scene sends its listener.
const guardFD = 4

// perform plays a scene; if that was ended for a system call, it names it.
func perform(t *testing.T, s scene) (o outcome, call string) {
	t.Helper()
	s.File = filepath.Join(t.TempDir(), "file")
	f, err := os.Create(s.File)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "guard")
	text, _ := json.Marshal(s)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), sceneVar+"="+string(text), "GODEBUG=updatemaxprocs=0,decoratemappings=0", "GORACE=")
	cmd.ExtraFiles = []*os.File{f, theirs}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	limit := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer limit.Stop()
	guarded := make(chan string, 1)
	go func() {
		defer unix.Close(pair[0])
		call, err := guard(pair[0])
		if err == nil {
			cmd.Process.Kill()
		}
		guarded <- call
	}()
	err = cmd.Wait()
	if call = <-guarded; call != "" {
		return o, call
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == unix.SIGSYS {
		return o, "unnamed"
	}
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	if err := json.Unmarshal([]byte(said.String()), &o); err != nil {
		t.Fatalf("%v: %q", err, said.String())
	}
	return o, ""
}

// guard waits for the listener that comes over a socket, and then for a call.
func guard(socket int) (call string, err error) {
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return "", errors.Join(err, io.EOF)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return "", err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return "", err
	}
	l, err := Listen(fds[0])
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Next()
}

// Each layer alone forbids what it is there for, on every thread; without it
// the same works.
func TestLayers(t *testing.T) {
	abi := landlockABI()
	for _, c := range []struct {
		layers Layers
		limit  bool
		deed   string
		needs  string // why it cannot be seen here
		call   string // that ends it
	}{
		{layers: Layers{Landlock: true}, deed: "open", needs: landlockNeeds(abi, 1)},
		{layers: Layers{Landlock: true}, deed: "write", needs: landlockNeeds(abi, 1)},
		{layers: Layers{Landlock: true}, deed: "make", needs: landlockNeeds(abi, 1)},
		{layers: Layers{Landlock: true}, deed: "bind", needs: landlockNeeds(abi, 4)},
		{layers: Layers{Landlock: true}, deed: "signal", needs: landlockNeeds(abi, 6)},
		{layers: Layers{NoNewPrivs: true}, deed: "privileges", needs: oneThread()},
		{layers: Layers{Capabilities: true}, deed: "capability", needs: needsRoot()},
		{limit: true, deed: "descriptor", needs: noLimits()},
		{layers: Layers{Seccomp: true}, deed: "socket", call: "socket"},
		{layers: Layers{Seccomp: true}, deed: "execute", call: "mmap"},
		{layers: Layers{Seccomp: true}, deed: "privileges", call: "prctl"},
	} {
		t.Run(fmt.Sprintf("%s/%+v", c.deed, c.layers), func(t *testing.T) {
			if c.needs != "" {
				t.Skip("NOT RUN: " + c.needs)
			}
			free, call := perform(t, scene{Deed: c.deed})
			if call != "" || free.Worked != free.Threads || free.Threads == 0 {
				t.Fatalf("without a sandbox: %+v", free)
			}
			c.layers.NoNewPrivs = c.layers.NoNewPrivs || c.layers.Landlock || c.layers.Seccomp // they need it
			o, call := perform(t, scene{Deed: c.deed, Layers: c.layers, Limit: c.limit})
			if call != c.call || o.Worked > 0 || c.call == "" && o.Threads == 0 {
				t.Errorf("ended for %q, %+v", call, o)
			}
			if c.call == "" {
				return
			}
			if o, call = perform(t, scene{Deed: c.deed, Layers: c.layers, Taken: true}); call != "unnamed" {
				t.Errorf("where another has the listener: ended for %q, %+v", call, o)
			}
		})
	}
}

func TestAllOfIt(t *testing.T) {
	for _, taken := range []bool{false, true} {
		o, call := perform(t, scene{Deed: "nothing", Layers: All, Taken: taken})
		if call != "" || o.Worked == 0 || o.State.NoNewPrivs != oneThread() || o.State.Seccomp != "" ||
			o.State.Listener == taken || o.State.Capabilities != capabilitiesWant() {
			t.Errorf("ended for %q, %+v", call, o)
		}
		t.Logf("in %v: %+v", o.Took, o.State)
	}
}
