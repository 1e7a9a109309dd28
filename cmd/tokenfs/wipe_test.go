package main

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestWipePaths(t *testing.T) {
	eachAccount(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		m, home := a.mountpoint(), a.runtime+"/home"
		a.must("mkdir -p " + home + " " + m + "/azure/deep && ln -s " + m + "/azure " + home + "/.azure && cd " + m +
			" && echo 1 > azure/one && echo 2 > azure/two && ln azure/two azure/deep/again && echo 3 > keep && ln -s ../keep azure/link && ln -s /etc/hostname out && touch " + a.runtime + "/plain")

		a.tokenfs(exitOK, "wiped 1 file", "wipe", home+"/.azure/one")
		a.must("test ! -e " + m + "/azure/one")
		a.tokenfs(exitNoPath, "no such file", "wipe", home+"/.azure/one")
		a.tokenfs(exitNoPath, "symbolic link to "+m+"/azure", "wipe", home+"/.azure")
		a.tokenfs(exitNoPath, "not in the filesystem", "wipe", a.runtime+"/plain")
		a.tokenfs(exitNoPath, "does not exist", "wipe", a.runtime+"/missing")
		a.tokenfs(exitNoPath, "not in the filesystem", "wipe", m+"/..")
		a.tokenfs(exitUsage, "not a path", "wipe", "")
		// One bad path, and nothing happens to the good ones.
		a.tokenfs(exitNoPath, "", "wipe", m+"/keep", a.runtime+"/plain")
		a.must("test -f " + m + "/keep && test -f " + a.runtime + "/plain")

		// A file loses its contents under all its names.
		a.tokenfs(exitOK, "wiped 1 file", "wipe", m+"/azure/two")
		if got := a.must("cat " + m + "/azure/deep/again 2>/dev/null || true"); got != "" {
			a.Errorf("under its other name it still holds %q", got)
		}
		// Links are not followed, neither last nor on the way.
		a.tokenfs(exitNoPath, "", "wipe", m+"/out/x")
		a.must("test -f /etc/hostname && test -f " + m + "/keep")

		cmd := a.command(command, "wipe", "azure") // relative, from inside
		cmd.Args = []string{"sh", "-c", "cd " + m + " && exec " + command + " wipe ./azure"}
		cmd.Path = "/bin/sh"
		stdout, stderr, code := a.finish(cmd)
		a.check(code, exitOK, stdout+stderr, "wiped", cmd.Args)
		a.must("test ! -e " + m + "/azure && test -f " + m + "/keep")
		a.tokenfs(exitOK, "wiped everything", "wipe", m)
		a.must("test -z \"$(ls " + m + ")\"")
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}

// Whatever is said to the control socket, the filesystem goes on.
func TestGarbageOnTheSocket(t *testing.T) {
	eachAccount(t, func(a *account) {
		a.tokenfs(exitOK, "mounted on", "mount")
		a.must("echo x > " + a.mountpoint() + "/x")
		pid := a.status().Mount.PID
		for _, garbage := range []string{"hello\n", "\x00\x01\x02\n", "{\"v\":1,\"verb\":\"status\"", strings.Repeat("A", 1<<20), "\n\n\n\n", "{\"v\":1,\"verb\":\"wipe\",\"paths\":[\"Li4vLi4=\"]}\n"} {
			if os.Geteuid() != 0 && a.uid != os.Geteuid() {
				a.Skip("NOT RUN: needs root")
			}
			conn, err := net.Dial("unix", a.mountpoint()+".sock")
			if err != nil {
				a.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			conn.Write([]byte(garbage))
			if strings.HasSuffix(garbage, "\n") || len(garbage) > 1<<16 {
				answer := make([]byte, 1000)
				if n, err := conn.Read(answer); err != nil || !strings.Contains(string(answer[:n]), `"kind":"bad_request"`) {
					a.Errorf("%.20q: answer %q, %v", garbage, answer[:n], err)
				}
			}
			conn.Close()
		}
		a.must("test $(cat " + a.mountpoint() + "/x) = x")
		if got := a.status().Mount.PID; got != pid {
			a.Errorf("daemon is %d now, was %d", got, pid)
		}
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}

// Someone closing its terminal or its log must not leave a dead mount.
func TestDaemonOutlivesItsOutput(t *testing.T) {
	eachAccount(t, func(a *account) {
		cmd := a.command(command, "mount", "-f")
		r, w, err := os.Pipe()
		if err != nil {
			a.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Start(); err != nil {
			a.Fatal(err)
		}
		w.Close()
		r.Read(make([]byte, 100)) // "mounted on"
		r.Close()
		a.tokenfs(exitOK, "wiped everything", "wipe") // which is logged
		a.tokenfs(exitOK, "unmounted", "unmount")
		if err := cmd.Wait(); err != nil {
			a.Errorf("daemon: %v", err)
		}
		a.nothingLeft(cmd.Process.Pid)
	})
}

func TestBadCommandLines(t *testing.T) {
	a := &account{T: t, uid: os.Geteuid(), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}}
	for line, words := range map[string]string{
		"":                         "usage: tokenfs",
		"mout":                     `unknown command "mout" (did you mean mount?)`,
		"--json":                   `unknown command "--json"`,
		"mount a b":                `unexpected argument "b"`,
		"mount --sise 4M":          "unknown flag: --sise (did you mean --size?)",
		"mount --size":             "flag needs an argument",
		"mount --size 4Q":          `--size: "4Q" is not a size`,
		"mount --size 4K":          "between 1M and 16G",
		"mount --inodes x":         `--inodes: "x"`,
		"mount --secretmem=maybe":  "auto, on or off",
		"mount -o suid":            "suid: refused",
		"mount -o nonsense":        `"nonsense": unknown`,
		"mount /x --mountpoint /y": "leave one out",
		"mount --mountpoint=":      "empty",
		"unmount now":              `unexpected argument "now"`,
		"status -x":                "unknown shorthand flag",
		"status --mountpoint=":     "empty",
		"version 1":                `unexpected argument "1"`,
		"help nonsense":            "no help on",
		"wipe --force":             "unknown flag: --force",
	} {
		stdout, stderr, code := a.run(command, strings.Fields(line)...)
		a.check(code, exitUsage, stderr, words, []string{line})
		if stdout != "" {
			t.Errorf("tokenfs %s printed %q", line, stdout)
		}
	}
	for _, line := range []string{"help", "-h", "--help", "mount -h", "mount --help", "help mount", "help exit-codes", "help settings", "wipe --help", "version", "version --json"} {
		stdout, stderr, code := a.run(command, strings.Fields(line)...)
		a.check(code, exitOK, stdout, "", []string{line})
		if stdout == "" || stderr != "" {
			t.Errorf("tokenfs %s printed %q and complained %q", line, stdout, stderr)
		}
	}
	config := t.TempDir()
	if err := os.MkdirAll(config+"/tokenfs", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config+"/tokenfs/config", []byte("# mine\nsise = 4M\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.env = append(a.env, "XDG_CONFIG_HOME="+config, "XDG_RUNTIME_DIR=nowhere")
	a.tokenfs(exitUsage, config+`/tokenfs/config:2: unknown key "sise" (did you mean size?)`, "mount")
	for _, verb := range []string{"status", "unmount", "wipe"} {
		a.tokenfs(exitMountpoint, "warning: "+config+`/tokenfs/config:2: unknown key "sise" (did you mean size?)`, verb)
	}
	a.env = append(a.env, "XDG_CONFIG_HOME=", "TOKENFS_SIZE=huge")
	a.tokenfs(exitUsage, `TOKENFS_SIZE: "huge" is not a size`, "mount")
}
