package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inMountNamespace runs a script as root in a mount namespace of its own, where
// it can take things away that the machine has. In the script $U comes before a
// command to run it as the account's user.
func (a *account) inMountNamespace(script string) (said string, code int) {
	a.Helper()
	if os.Geteuid() != 0 {
		a.Skip("NOT RUN: needs root to take things away from the machine")
	}
	cmd := a.command("sh", "-c", "mount --make-rprivate /; "+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	u := ""
	if a.uid != 0 {
		u = fmt.Sprintf("setpriv --reuid=%[1]d --regid=%[1]d --clear-groups", a.uid)
	}
	cmd.Env = append(cmd.Env, "U="+u, "T="+command)
	stdout, stderr, code := a.finish(cmd)
	return stdout + stderr, code
}

func TestMachineLacksSomething(t *testing.T) {
	const noDev = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && "
	eachAccount(t, func(a *account) {
		for name, c := range map[string]struct {
			script string
			words  []string
			user   bool
		}{
			"no /dev/fuse":        {noDev + "$U $T mount", []string{"there is no /dev/fuse", "modprobe fuse", "--device /dev/fuse"}, false},
			"/dev/fuse no device": {noDev + "mknod -m 666 /dev/fuse c 10 1 && $U $T mount", []string{"modprobe fuse"}, false},
			"/dev/fuse closed":    {noDev + "mknod -m 600 /dev/fuse c 10 229 && $U $T mount", []string{"/dev/fuse: permission denied", "chmod 0666 /dev/fuse"}, true},
			"no fusermount3":      {"mount --bind /dev/null $(readlink -f $(command -v fusermount3)) && $U $T mount", []string{"fusermount3: ", "is not a regular file", "install the package fuse3"}, true},
			"no_new_privs":        {"$U setpriv --no-new-privs $T mount", []string{"fusermount3: ", "no_new_privs is set"}, true},
			"nothing lockable":    {"ulimit -l 0; $U $T mount", []string{"locking the session key in memory", "ulimit -l"}, true},
			"not setuid": {"cp $(readlink -f $(command -v fusermount3)) /dev/shm/fm$$ && chmod 755 /dev/shm/fm$$ && mount --bind /dev/shm/fm$$ $(readlink -f $(command -v fusermount3)) && rm /dev/shm/fm$$; $U $T mount",
				[]string{"fusermount3: ", "is not setuid root", "reinstall"}, true},
			"no CAP_SYS_ADMIN": {"setpriv --bounding-set -sys_admin $T mount", []string{"operation not permitted", "CAP_SYS_ADMIN", "--cap-add"}, a.uid == 0},
		} {
			if c.user && a.uid == 0 && name != "no CAP_SYS_ADMIN" || name == "no CAP_SYS_ADMIN" && a.uid != 0 {
				continue
			}
			a.Run(name, func(t *testing.T) {
				said, code := (&account{T: t, uid: a.uid, runtime: a.runtime, env: a.env}).inMountNamespace(c.script)
				a.check(code, exitUnsupported, said, "", []string{"mount"})
				for _, w := range c.words {
					if !strings.Contains(said, w) {
						t.Errorf("%q does not say %q", said, w)
					}
				}
				if strings.Count(said, "\n") != 1 {
					t.Errorf("said %q, want one line", said)
				}
				if _, err := os.Lstat(a.mountpoint() + ".sock"); err == nil {
					t.Error("socket left behind")
				}
			})
		}
	})
}

// A limit that is too small is told as what it is, before anything is made; one
// that may be raised is no obstacle.
func TestSmallLimits(t *testing.T) {
	asUser(t, func(a *account) {
		for limit, words := range map[string]string{
			"-n 8":       "the limit of open files is 8, and a filesystem needs 64",
			"-n 16":      "the limit of open files is 16, and a filesystem needs 64: raise it (ulimit -n",
			"-i 4":       "the limit of pending signals is 4, and a filesystem needs 64",
			"-s 64":      "the limit of bytes of stack is 65536",
			"-d 200000":  "the limit of bytes of data is 204800000",
			"-t 10":      "the limit of seconds of CPU time is 10",
			"-f 10":      "file too large: the limit of the size of a file is 10 KiB: raise it (ulimit -f",
			"-v 4000000": "cannot allocate memory: the limit of the memory of a process is 4000000 KiB: raise it (ulimit -v",
		} {
			said, stderr, code := a.run("bash", "-c", "ulimit "+limit+" && exec "+command+" mount")
			if raceDetector && (limit == "-v 4000000" || limit == "-d 200000") {
				a.Logf("NOT RUN: ulimit %s: the race detector wants more, and ends before anything of ours has run", limit)
				continue
			}
			a.check(code, exitUnsupported, said+stderr, words, []string{"mount with ulimit", limit})
			if left := a.mounts(); len(left) > 0 {
				a.Errorf("with ulimit %s it left mounts %q", limit, left)
			}
		}
		if os.Geteuid() == 0 {
			// Of a user who has no other processes, as the usual one of tests may have.
			lone := &account{T: a.T, uid: 61234, runtime: a.runtime, env: a.env}
			said, stderr, code := lone.run("bash", "-c", "ulimit -u 50 && exec "+command+" mount "+filepath.Dir(a.runtime)+"/elsewhere")
			a.check(code, exitUnsupported, said+stderr, "the limit of processes is 50, this user has ", []string{"mount with ulimit -u"})
		} else {
			a.Log("NOT RUN: needs root to be a user without other processes")
		}
		for _, limit := range []string{"-Sn 16", "-Si 4", "-Ss 64", "-Sd 200000", "-St 10", "-Sf 10"} {
			if raceDetector && limit == "-Sd 200000" {
				continue
			}
			if said, stderr, code := a.run("bash", "-c", "ulimit "+limit+" && exec "+command+" mount"); code != 0 {
				a.Fatalf("with ulimit %s: %s%s", limit, said, stderr)
			}
			a.must("echo x > " + a.mountpoint() + "/x && cat " + a.mountpoint() + "/x")
			a.tokenfs(exitOK, "unmounted", "unmount")
		}
	})
}

func TestSmallLockLimit(t *testing.T) {
	asUser(t, func(a *account) {
		a.must("ulimit -l 64; exec " + command + " mount")
		if p := a.protection("keys_locked"); p.Active || !strings.Contains(p.Detail, "ulimit -l") {
			a.Errorf("protection: %+v", p)
		}
		if s := a.status(); s.Memory.LockLimit != 64<<10 || s.Memory.Locked > 64<<10 || s.Memory.Locked == 0 {
			a.Errorf("memory: %+v", s.Memory)
		}
		a.must("echo x > " + a.mountpoint() + "/x && cat " + a.mountpoint() + "/x")
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}

func TestOthersAreKeptOut(t *testing.T) {
	asUser(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		a.must("echo x > " + a.mountpoint() + "/x")
		if os.Geteuid() != 0 {
			a.Skip("NOT RUN: needs root to be another user")
		}
		root := &account{T: a.T, uid: 0, runtime: a.runtime, env: a.env}
		root.fails("denied", "cat "+a.mountpoint()+"/x")
		root.tokenfs(exitMountpoint, "belongs to uid 65534", "status", "--mountpoint", a.mountpoint())
		root.tokenfs(exitMountpoint, "belongs to uid 65534", "mount", a.mountpoint())
		root.tokenfs(exitMountpoint, "belongs to uid 65534", "unmount", "--mountpoint", a.mountpoint())
		a.must("chmod 711 " + a.runtime)
		other := &account{T: a.T, uid: 12345, runtime: a.runtime, env: a.env}
		other.fails("denied", "cat "+a.mountpoint()+"/x")
		other.tokenfs(exitMountpoint, "", "status", "--mountpoint", a.mountpoint())
		a.must("cat " + a.mountpoint() + "/x")
		a.tokenfs(exitOK, "unmounted", "unmount", "--mountpoint", a.mountpoint())
	})
}

func TestAllowOther(t *testing.T) {
	asRoot(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount", "-o", "allow_other")
		m := a.mountpoint()
		a.must("chmod 711 " + a.runtime + "; chmod 755 " + m + "; echo open > " + m + "/open; echo closed > " + m + "/closed; chmod 600 " + m + "/closed")
		other := &account{T: a.T, uid: 12345, runtime: a.runtime, env: a.env}
		if got := other.must("cat " + m + "/open"); got != "open\n" {
			a.Errorf("another user read %q", got)
		}
		other.fails("denied", "cat "+m+"/closed")
		other.fails("denied", "echo x > "+m+"/new")
		a.tokenfs(exitOK, "unmounted", "unmount", "--mountpoint", m)
	})
	asUser(t, func(a *account) {
		a.tokenfs(exitUsage, "only root", "mount", "-o", "allow_other")
	})
}

func TestDaemonIsClosedToItsUser(t *testing.T) {
	asUser(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		pid := a.status().Mount.PID
		for _, file := range []string{"mem", "environ", "maps", "fd/0", "exe"} {
			a.fails("denied", fmt.Sprintf("cat /proc/%d/%s", pid, file))
		}
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}
