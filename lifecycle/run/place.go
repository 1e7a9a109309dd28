package run

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
)

// A place is where the filesystem of a command is mounted.
type place struct {
	point string
	base  string   // directory for the control socket
	made  string   // runtime directory made for the command, where there was none
	env   []string // for the command
}

const runUser = "/run/user"

// findPlace makes a runtime directory if there is none.
func findPlace(named string) (p place, err error) {
	usual, err := mount.DefaultMountpoint()
	if err == nil {
		p.base = strings.TrimSuffix(usual, "/tokenfs")
	} else if p.made, err = makeRuntime(); err != nil {
		return p, err
	} else {
		p.base = p.made
	}
	p.env = []string{"XDG_RUNTIME_DIR=" + p.base}
	p.point = p.base + "/tokenfs"
	if named != "" {
		p.point = named
		p.env = append(p.env, "TOKENFS_MOUNTPOINT="+named)
	}
	return p, nil
}

// makeRuntime makes a directory as XDG_RUNTIME_DIR is to be.
func makeRuntime() (string, error) {
	var failed error
	for _, dir := range []string{os.TempDir(), "/dev/shm", "/var/tmp"} {
		made, err := os.MkdirTemp(dir, "tokenfs-run-")
		if err == nil {
			return made, nil
		}
		failed = errors.Join(failed, err)
	}
	return "", fault.Errorf(fault.Mountpoint, "there is no runtime directory, and none can be made: mount a tmpfs on /tmp, or name one you may write to as TMPDIR (%w)", failed)
}

// privatePlace is how a command sees its place, from within its namespace.
type privatePlace struct {
	mount privateMount
	env   []string
}

// private puts a runtime directory that was made where apps look for it.
func (p place) private() privatePlace {
	v := privatePlace{env: slices.Clone(p.env)}
	v.mount.Point = p.point
	v.mount.Socket = fmt.Sprintf("%s/tokenfs-run-%d", p.base, os.Getpid())
	st, err := os.Lstat(runUser)
	if p.made == "" || err != nil || !st.IsDir() {
		return v
	}
	v.mount.Runtime = p.made
	v.mount.Show = fmt.Sprintf("%s/%d", runUser, os.Geteuid())
	v.env[0] = "XDG_RUNTIME_DIR=" + v.mount.Show
	if p.point == p.made+"/tokenfs" {
		v.mount.Point = v.mount.Show + "/tokenfs"
	}
	return v
}

// remove takes away what findPlace made.
func (p place) remove() { RemoveRuntime(p.made) }

func RemoveRuntime(dir string) {
	table, err := mount.Table()
	if dir == "" || err != nil || slices.ContainsFunc(table, func(e mount.Entry) bool { return strings.HasPrefix(e.Point, dir+"/") }) {
		return
	}
	os.RemoveAll(dir)
}
