package run

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

const filteredName = "filtered"

// filteredMain executes its arguments as nobody can make namespaces in most
// containers: their seccomp filter says no. Mounting by fusermount3 is allowed,
// so that there is something to fall back to.
func filteredMain() {
	runtime.LockOSThread()
	const (
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyBit   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret      = unix.BPF_RET | unix.BPF_K
		allow    = 0x7fff0000 // SECCOMP_RET_ALLOW
		fail     = 0x00050000 // SECCOMP_RET_ERRNO
		firstArg = 16         // its lower half in struct seccomp_data
	)
	filter := []unix.SockFilter{
		{Code: load, K: 0},
		{Code: equal, K: unix.SYS_CLONE3, Jt: 5},
		{Code: equal, K: unix.SYS_UNSHARE, Jt: 5},
		{Code: equal, K: unix.SYS_CLONE, Jf: 2},
		{Code: load, K: firstArg},
		{Code: anyBit, K: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Jt: 2},
		{Code: ret, K: allow},
		{Code: ret, K: fail | uint32(unix.ENOSYS)},
		{Code: ret, K: fail | uint32(unix.EPERM)},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		panic(err)
	}
	panic(unix.Exec("/usr/bin/setpriv", append([]string{"setpriv"}, os.Args[1:]...), os.Environ()))
}

// filtered runs tokenfs in such a container.
func filtered(u *installed.User, args ...string) string {
	u.Helper()
	self := u.Top + "/" + filteredName
	if _, err := os.Stat(self); err != nil {
		if err := installed.Copy("/proc/self/exe", self, 0o755); err != nil {
			u.Fatal(err)
		}
	}
	cmd := u.Program(self, append([]string{"--reuid", strconv.Itoa(u.UID), "--regid", strconv.Itoa(u.UID), "--clear-groups", u.Command}, args...)...)
	cmd.SysProcAttr = nil // root still
	said, code := u.End(cmd)
	return said + "status " + strconv.Itoa(code)
}

// Where namespaces are refused, the mount is an ordinary one, and that is said.
func TestRefusedByFilter(t *testing.T) {
	u := newUser(t)
	script := `echo token > $XDG_RUNTIME_DIR/tokenfs/x && ` + u.Command + ` status --json | grep private; cat /proc/self/mountinfo`
	said := filtered(u, "run", "sh", "-c", script)
	for _, words := range []string{"no namespace of its own", "seccomp", "the mount on " + u.Mountpoint() + " is an ordinary one", `"private": false`, " " + u.Mountpoint() + " ", "status 0"} {
		if !strings.Contains(said, words) {
			t.Errorf("no %q in %s", words, said)
		}
	}
	gone(u)

	said = filtered(u, "run", "--private=require", "echo", "was run")
	if !strings.Contains(said, "a namespace of its own is refused here") || !strings.HasSuffix(said, "status 125") || strings.Contains(said, "was run") {
		t.Error(said)
	}
	gone(u)

	// An ordinary mount does not take the place of the user's own.
	u.Must("mount")
	u.Shell("echo outer > " + u.Path("token"))
	said = filtered(u, "run", "echo", "was run")
	if !strings.Contains(said, "is mounted already") || !strings.HasSuffix(said, "status 125") || strings.Contains(said, "was run") {
		t.Error(said)
	}
	said = filtered(u, "run", "--mountpoint", u.Top+"/run/other", "sh", "-c", `echo $TOKENFS_MOUNTPOINT > $TOKENFS_MOUNTPOINT/x; cat $TOKENFS_MOUNTPOINT/x; `+u.Command+` status`)
	if !strings.Contains(said, "mounted    "+u.Top+"/run/other,") || !strings.HasSuffix(said, "status 0") {
		t.Error(said)
	}
	if got := u.Shell("cat " + u.Path("token")); got != "outer\n" {
		t.Errorf("outside there is now %q", got)
	}
	u.Must("unmount")
	gone(u)
}

// Neither does a limit of 0 on namespaces, which holds for root too.
func TestRefusedByLimit(t *testing.T) {
	u := newUser(t)
	limited := func(args string) string {
		cmd := u.Program("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
			`echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_mnt_namespaces && exec `+u.Command+` run `+args)
		said, code := u.End(cmd)
		return said + "status " + strconv.Itoa(code)
	}
	if said := limited("--private=require echo was run"); !strings.Contains(said, "max_user_namespaces is 0") || !strings.HasSuffix(said, "status 125") || strings.Contains(said, "was run") {
		t.Error(said)
	}
	if said := limited(`sh -c 'echo token > $XDG_RUNTIME_DIR/tokenfs/x && cat $XDG_RUNTIME_DIR/tokenfs/x'`); !strings.Contains(said, "ordinary one") || !strings.HasSuffix(said, "token\nstatus 0") {
		t.Error(said)
	}
	gone(u)
}
