package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLifeOfAFilesystem(t *testing.T) {
	eachAccount(t, func(a *account) {
		m := a.mountpoint()
		a.tokenfs(exitNotMounted, "nothing is mounted", "status")
		a.tokenfs(exitNotMounted, "nothing is mounted", "unmount")
		a.tokenfs(exitNotMounted, "nothing is mounted", "wipe")
		a.tokenfs(exitNotMounted, "nothing is mounted", "wipe", m+"/x")
		a.tokenfs(exitOK, "mounted on "+m, "mount")
		a.tokenfs(exitOK, m+" is mounted already", "mount")

		a.must("mkdir " + m + "/az && echo token > " + m + "/az/cache && test $(cat " + m + "/az/cache) = token")
		s := a.status()
		if s.FormatVersion != 1 || s.Mount.Mountpoint != m || s.AEAD != "AES-256-GCM" || s.Content.Files != 1 || s.Content.Quota != 64<<20 || s.Content.InodeLimit != 64<<10 {
			a.Errorf("status %+v", s)
		}
		if s.Memory.PSS < 1<<20 || s.Memory.PSS > pssLimit || s.Memory.Locked <= 0 {
			a.Errorf("memory %+v", s.Memory)
		}
		if d := time.Since(s.Mount.Since); d < 0 || d > time.Minute {
			a.Errorf("mounted since %v", s.Mount.Since)
		}
		for _, name := range []string{"core_dumps_off", "ptrace_off", "nothing_beneath", "uncovered", "keys_locked"} {
			if p := a.protection(name); !p.Active {
				a.Errorf("not protected: %+v", p)
			}
		}
		if p := a.protection("closed_beneath"); p.Active != (a.uid != 0) {
			a.Errorf("protection: %+v", p)
		}
		text := a.tokenfs(exitOK, "az/cache", "status", "-v")
		for _, word := range []string{m, "1 file", "64 MiB", "AES-256-GCM", "ptrace_off", "PSS"} {
			if !strings.Contains(text, word) {
				a.Errorf("status does not tell %s: %s", word, text)
			}
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.Mount.PID))
		if err != nil || string(comm) != "tokenfs\n" {
			a.Errorf("daemon is called %q, %v", comm, err)
		}

		a.tokenfs(exitOK, "wiped 1 file", "wipe", m+"/az/cache")
		a.must("test ! -e " + m + "/az/cache && echo again > " + m + "/az/cache")
		a.tokenfs(exitOK, "wiped everything", "wipe")
		a.must("test -z \"$(ls " + m + ")\" && echo more > " + m + "/more")
		a.tokenfs(exitOK, "unmounted "+m, "unmount")
		a.nothingLeft(s.Mount.PID)
		a.tokenfs(exitNotMounted, "nothing is mounted", "status")

		if a.uid != 0 {
			a.fails("denied", "echo plaintext > "+m+"/x") // the directory is closed
		}
		a.tokenfs(exitOK, "mounted on "+m, "mount") // and can be mounted on again
		a.must("test -z \"$(ls " + m + ")\"")
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}

func TestMountElsewhere(t *testing.T) {
	eachAccount(t, func(a *account) {
		long := a.runtime + "/" + strings.Repeat("d", 120) + " with blank"
		if err := errors.Join(os.Mkdir(long, 0o700), os.Chown(long, a.uid, a.uid)); err != nil {
			a.Fatal(err)
		}
		m := long + "/m,x"
		a.tokenfs(exitOK, "mounted on", "mount", "--size", "2M", "--inodes", "50", "--secretmem=off", "-o", "noexec", "-onoatime", m)
		a.tokenfs(exitOK, "mounted already", "mount", m+"/")
		a.tokenfs(exitOK, "2 MiB", "status", "--mountpoint", m)
		a.tokenfs(exitOK, "of 50 inodes", "status", "--mountpoint="+m)
		a.tokenfs(exitOK, "off by request", "status", "-v", "--mountpoint", m)
		a.fails("denied", fmt.Sprintf("echo true > '%[1]s/x'; chmod 700 '%[1]s/x'; '%[1]s/x'", m)) // noexec
		a.env = append(a.env, "TOKENFS_MOUNTPOINT="+m)
		a.tokenfs(exitOK, "wiped 1 file", "wipe", m+"/x")
		pid := a.status().Mount.PID
		a.tokenfs(exitOK, "unmounted", "unmount")
		a.eventually("daemon ends", func() bool { return ended(pid) })
		a.tokenfs(exitOK, "mounted on "+m, "mount") // the setting is mount's, too
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}

func TestDeadMount(t *testing.T) {
	eachAccount(t, func(a *account) {
		m := a.mountpoint()
		kill := func() {
			st := a.status()
			if err := unix.Kill(st.Mount.PID, unix.SIGKILL); err != nil {
				a.Fatal(err)
			}
			a.eventually("keeper and worker die", func() bool { return ended(st.Mount.PID) && ended(st.Worker.PID) })
			a.fails("not connected", "ls "+m)
			a.tokenfs(exitDead, "nobody answers", "status")
			a.tokenfs(exitDead, "nobody answers", "wipe")
		}
		a.tokenfs(exitOK, "mounted on", "mount")
		kill()
		a.tokenfs(exitOK, "mounted on", "mount")
		if s := a.status(); len(s.Messages) == 0 || !strings.Contains(s.Messages[0].Text, "cleared a dead mount") {
			a.Errorf("messages %v", s.Messages)
		}
		a.must("echo x > " + m + "/x")
		if points := a.mounts(); len(points) != 1 {
			a.Errorf("mounted: %q", points)
		}
		kill()
		a.tokenfs(exitOK, "its daemon had ended before", "unmount")
		a.nothingLeft(0)
	})
}

// Settings that cannot be read keep nobody from wiping and unmounting, nor systemd
// from clearing away a dead mount; only a new mount needs them.
func TestUnreadableSettings(t *testing.T) {
	eachAccount(t, func(a *account) {
		m := a.mountpoint()
		a.tokenfs(exitOK, "mounted on", "mount")
		a.must("mkdir -p ~/.config/tokenfs && echo nonsense >~/.config/tokenfs/config")
		a.tokenfs(exitUsage, "nonsense", "mount", m+"2")
		a.tokenfs(exitOK, "warning: ", "status")
		a.tokenfs(exitOK, "holds", "status", "--mountpoint="+m)
		a.must("echo x >" + m + "/x")
		a.tokenfs(exitOK, "wiped everything", "wipe", "--mountpoint="+m)
		a.tokenfs(exitOK, "unmounted", "unmount", "--mountpoint="+m)
		elsewhere := a.runtime + "/elsewhere"
		for setting, at := range map[string]string{"": m, "mountpoint = " + elsewhere: elsewhere} {
			a.must("echo '" + setting + "' >~/.config/tokenfs/config")
			a.tokenfs(exitOK, "mounted on "+at, "mount")
			st := a.status()
			if err := unix.Kill(st.Mount.PID, unix.SIGKILL); err != nil {
				a.Fatal(err)
			}
			a.eventually("keeper and worker die", func() bool { return ended(st.Mount.PID) && ended(st.Worker.PID) })
			a.must("{ echo nonsense; echo '" + setting + "'; } >~/.config/tokenfs/config")
			a.tokenfs(exitOK, "unmounted "+at, "unmount", "--dead")
			a.nothingLeft(st.Mount.PID)
		}
	})
}

// A daemon that is stopped or spins keeps clients in a sleep that signals do
// not end; it must be possible to get rid of it.
func TestHungDaemon(t *testing.T) {
	eachAccount(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		pid := a.status().Mount.PID
		a.stop(pid)
		a.tokenfs(exitDead, fmt.Sprintf("no answer from its daemon (pid %d)", pid), "status")
		a.tokenfs(exitOK, "did not answer and was killed", "unmount")
		a.nothingLeft(pid)
	})
}

func TestSignalsEndTheFilesystemAlsoWhenBusy(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			eachAccount(t, func(a *account) {
				d := a.foreground()
				m := a.mountpoint()
				// Somebody works in it, and has a file open.
				busy := a.command("sh", "-c", "cd "+m+" && exec 3>open && echo secret >&3 && echo in && read x; echo more >&3; cat open; ls .")
				in, _ := busy.StdinPipe()
				out, _ := busy.StdoutPipe()
				var said strings.Builder
				busy.Stderr = &said
				if err := busy.Start(); err != nil {
					a.Fatal(err)
				}
				line := make([]byte, 100)
				if n, err := out.Read(line); err != nil || string(line[:n]) != "in\n" {
					a.Fatalf("%q, %v", line[:n], err)
				}
				d.Process.Signal(sig)
				d.wantExit(0, "asked to end")
				a.nothingLeft(d.Process.Pid)
				in.Close()
				n, _ := out.Read(line)
				busy.Wait()
				if n > 0 || strings.Count(said.String(), "\n") < 3 {
					a.Errorf("a client still got %q, and failures %q", line[:n], &said)
				}
			})
		})
	}
}

func TestBusyUnmount(t *testing.T) {
	eachAccount(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		pid := a.status().Mount.PID
		busy := a.command("sh", "-c", "cd "+a.mountpoint()+" && echo in && exec sleep 100")
		out, _ := busy.StdoutPipe()
		if err := busy.Start(); err != nil {
			a.Fatal(err)
		}
		defer func() { busy.Process.Kill(); busy.Wait() }()
		out.Read(make([]byte, 10))
		a.tokenfs(exitOK, "still in use", "unmount") // which does not wait for it
		if ended(busy.Process.Pid) {
			a.Error("what used it has ended")
		}
		a.nothingLeft(pid)
	})
}

func TestForeignUnmount(t *testing.T) {
	eachAccount(t, func(a *account) {
		d := a.foreground()
		if a.uid == 0 {
			a.must("umount " + a.mountpoint())
		} else {
			a.must("fusermount3 -u " + a.mountpoint())
		}
		d.wantExit(0, "was unmounted")
		a.nothingLeft(d.Process.Pid)
	})
}

func TestMountedOver(t *testing.T) {
	asRoot(t, func(a *account) {
		m := a.mountpoint()
		d := a.foreground()
		a.must("mount -t tmpfs none " + m)
		a.tokenfs(exitNotMounted, "a tmpfs filesystem is mounted", "status")
		a.tokenfs(exitMountpoint, "a tmpfs filesystem is mounted", "mount")
		conn, err := net.Dial("unix", m+".sock")
		if err != nil {
			a.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte(`{"v":1,"verb":"status"}` + "\n"))
		if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(answer, "another filesystem is mounted over this one") {
			a.Errorf("status when covered: %s, %v", answer, err)
		}
		a.must("umount " + m)
		if p := a.protection("uncovered"); !p.Active {
			a.Errorf("protection: %+v", p)
		}
		a.tokenfs(exitOK, "unmounted", "unmount")
		d.wantExit(0, "asked to unmount")
		a.nothingLeft(d.Process.Pid)
	})
}

func TestReadiness(t *testing.T) {
	eachAccount(t, func(a *account) {
		name := filepath.Join(filepath.Dir(a.runtime), "notify")
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			a.Fatal(err)
		}
		defer l.Close()
		if err := os.Chmod(name, 0o777); err != nil {
			a.Fatal(err)
		}
		a.env = append(a.env, "NOTIFY_SOCKET="+name)
		d := a.foreground()
		l.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1" {
			a.Errorf("service manager got %q, %v", b[:n], err)
		}
		a.tokenfs(exitOK, "unmounted", "unmount")
		if n, err := l.Read(b); err != nil || string(b[:n]) != "STOPPING=1" {
			a.Errorf("service manager got %q, %v", b[:n], err)
		}
		d.wantExit(0, "")
	})
}

func TestRefusedMountpoints(t *testing.T) {
	eachAccount(t, func(a *account) {
		r := a.runtime
		a.must("cd " + r + " && mkdir full empty && touch full/x file && ln -s empty link && mkdir -m 1777 sticky && mkdir -m 777 shared")
		for path, words := range map[string]string{
			r + "/full":     "is not empty",
			r + "/link":     "is a symbolic link",
			r + "/file":     "is not a directory",
			r + "/no/where": "parent directory does not exist",
			r + "/shared/x": "writable for everyone",
			"/":             "cannot be a mountpoint",
			"/proc":         "a proc filesystem is mounted",
			r + "/file/x":   "not a directory",
		} {
			a.tokenfs(exitMountpoint, words, "mount", path)
		}
		if left := a.mounts(); len(left) > 0 {
			a.Errorf("mounted: %q", left)
		}
		if a.uid != 0 {
			a.tokenfs(exitMountpoint, "belongs to uid 0", "mount", "/usr")
		}
		a.tokenfs(exitOK, "mounted on "+r+"/sticky/m", "mount", r+"/sticky/m")
		a.tokenfs(exitOK, "unmounted", "unmount", "--mountpoint", r+"/sticky/m")

		a.must("chmod 755 " + r)
		a.tokenfs(exitMountpoint, "mode 0755", "mount")
		a.must("chmod 700 " + r)
		a.env = a.env[:len(a.env)-1] // XDG_RUNTIME_DIR
		if _, err := os.Lstat(fmt.Sprintf("/run/user/%d", a.uid)); err == nil {
			a.Log("NOT RUN: without XDG_RUNTIME_DIR, because this user has a login session")
		} else {
			a.tokenfs(exitMountpoint, "XDG_RUNTIME_DIR is not set", "mount")
			a.tokenfs(exitMountpoint, "XDG_RUNTIME_DIR is not set", "status")
			if a.env = append(a.env, "SUDO_UID=1000"); a.uid == 0 {
				a.tokenfs(exitMountpoint, "uid 1000 has a filesystem of its own, without sudo", "status")
			}
		}
	})
}

// Whatever happens to the path while fusermount3 is at work, the filesystem
// is either at that path, or not there at all and not reported so.
func TestMountpointSwappedWhileMounting(t *testing.T) {
	asUser(t, func(a *account) {
		r := a.runtime
		a.must("mkdir " + r + "/elsewhere")
		a.helper("case \"$*\" in *-u*) ;; *) mv %[1]s/tokenfs %[1]s/moved && ln -s elsewhere %[1]s/tokenfs;; esac", r)
		// Mounts made there are seen nowhere else.
		said, code := a.inMountNamespace(withHelper + "$U $T mount; status=$?; grep " + r + "/ /proc/self/mountinfo; exit $status")
		a.check(code, exitMountpoint, said, "was replaced while it was being mounted", []string{"mount"})
		if strings.Count(said, "\n") != 1 {
			a.Errorf("said, or mounted: %s", said)
		}
		if left := a.mounts(); len(left) > 0 {
			a.Errorf("mounted: %q", left)
		}
		if st, err := os.Lstat(r + "/moved"); err != nil || st.Mode().Perm() != 0o500 {
			a.Errorf("directory is left as %v, %v", st, err)
		}
		if _, err := os.Lstat(r + "/tokenfs.sock"); err == nil {
			a.Error("socket left behind")
		}
	})
}

// The keys are gone before anything else is tried: by the time the helper runs
// that unmounts, nothing can be read any more.
func TestKeysGoFirst(t *testing.T) {
	asUser(t, func(a *account) {
		r, m := a.runtime, a.mountpoint()
		a.helper("case \"$*\" in *-u*) cat %s/x >%s/seen 2>&1;; esac; true", m, r)
		said, code := a.inMountNamespace(withHelper + "$U $T mount && $U sh -c 'echo secret >" + m + "/x' && $U $T unmount")
		a.check(code, exitOK, said, "unmounted", []string{"mount"})
		if seen := a.must("cat " + r + "/seen"); strings.Contains(seen, "secret") || !strings.Contains(seen, "Input/output error") {
			a.Errorf("while it was being unmounted it showed %q", seen)
		}
	})
}

// Whoever comes first mounts; nobody takes away what another one has mounted
// in place of the dead mount that all of them found.
func TestManyMountAtOnce(t *testing.T) {
	eachAccount(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		dead := a.status().Mount.PID
		if err := unix.Kill(dead, unix.SIGKILL); err != nil {
			a.Fatal(err)
		}
		a.eventually("daemon dies", func() bool { return ended(dead) })
		var all sync.WaitGroup
		for range 24 {
			all.Go(func() {
				if out, err := a.command(command, "mount").CombinedOutput(); err != nil {
					a.Errorf("%v: %s", err, out)
				}
			})
		}
		all.Wait()
		if points := a.mounts(); len(points) != 1 {
			a.Errorf("mounted: %q", points)
		}
		pid := a.status().Mount.PID
		a.tokenfs(exitOK, "unmounted", "unmount")
		a.nothingLeft(pid)
	})
}

func TestPlaintextBeneathIsReported(t *testing.T) {
	eachAccount(t, func(a *account) {
		m := a.mountpoint()
		if err := errors.Join(os.Mkdir(m, 0o700), os.Chown(m, a.uid, a.uid)); err != nil {
			a.Fatal(err)
		}
		beneath, err := os.Open(m)
		if err != nil {
			a.Fatal(err)
		}
		defer beneath.Close()
		a.tokenfs(exitOK, "mounted on", "mount")
		if err := unix.Fchmod(int(beneath.Fd()), 0o700); err != nil {
			a.Fatal(err)
		}
		fd, err := unix.Openat(int(beneath.Fd()), "plaintext", unix.O_CREAT|unix.O_WRONLY, 0o600)
		if err != nil {
			a.Fatal(err)
		}
		unix.Close(fd)
		if p := a.protection("nothing_beneath"); p.Active || !strings.Contains(p.Detail, `"plaintext"`) {
			a.Errorf("protection: %+v", p)
		}
		if p := a.protection("closed_beneath"); p.Active {
			a.Errorf("protection: %+v", p)
		}
		a.tokenfs(exitOK, "unmounted", "unmount")
		a.tokenfs(exitMountpoint, "is not empty", "mount")
	})
}

// Who logs in and has no mount finds out why, also where nobody has said it.
func TestFailuresLeaveANote(t *testing.T) {
	for name, c := range map[string]struct {
		mount func() error
		want  string
	}{
		"error":          {func() error { return errors.New("no \x1b\nroom") }, `no \x1b\nroom`},
		"panic":          {func() error { var none *settings; return errors.New(none.mountpoint) }, "internal error: runtime error: invalid memory address"},
		"a dead daemon":  {func() error { return &reported{exitFailure} }, "died without a word"},
		"joined errors":  {func() error { return errors.Join(errors.New("one"), errors.New("two")) }, "one; two"},
		"all went right": {func() error { return nil }, ""},
	} {
		m := filepath.Join(t.TempDir(), "m")
		func() {
			defer func() {
				if r := recover(); (r != nil) != (name == "panic") {
					t.Errorf("%s: recovered %v", name, r)
				}
			}()
			var err error
			defer func() { noteFailure(settings{mountpoint: m}, err, recover()) }()
			err = c.mount()
		}()
		note, err := os.ReadFile(m + ".failed")
		if c.want == "" && !errors.Is(err, os.ErrNotExist) || c.want != "" && (err != nil || !strings.Contains(string(note), c.want)) {
			t.Errorf("%s: note %q, %v, want %q", name, note, err, c.want)
		}
	}
}
