package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
)

// Tests that want something to happen while fusermount3 is at work put this
// program in its place, setuid and all, in a mount namespace of their own.

const helperName = "fusermount3"

// withHelper comes before a script for inMountNamespace. What the helper is to do,
// as the user, is in helper.sh in the runtime directory.
const withHelper = `mount -t tmpfs -o mode=755 none /mnt && real=$(readlink -f $(command -v fusermount3)) && cp -p $real /mnt/fusermount3 &&
	cp $T /mnt/helper && chmod 4755 /mnt/helper && mount --bind /mnt/helper $real || exit 99
`

func (a *account) helper(format string, args ...any) {
	a.Helper()
	if err := os.WriteFile(a.runtime+"/helper.sh", fmt.Appendf(nil, format, args...), 0o755); err != nil {
		a.Fatal(err)
	}
}

// helperMain is this program in the place of fusermount3.
func helperMain() {
	dir := ".." // of the mountpoint
	if slices.Contains(os.Args, "-u") {
		dir = filepath.Dir(os.Args[len(os.Args)-1])
	}
	script := exec.Command("sh", append([]string{dir + "/helper.sh"}, os.Args[1:]...)...)
	script.Stderr = os.Stderr
	script.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}}
	if err := script.Run(); err != nil {
		panic(err)
	}
	panic(syscall.Exec("/mnt/fusermount3", os.Args, os.Environ()))
}
