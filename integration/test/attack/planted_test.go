package attack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tokenfs/integration/test/installed"
	"tokenfs/lifecycle"
)

// What a user plants where a program is looked for is not executed.

// A fusermount3 that comes first in PATH could keep a copy of /dev/fuse, and read
// from it what apps write.
func TestHelperIsNotTakenFromPATH(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	bin := filepath.Join(u.Top, "bin")
	helper := "#!/bin/sh\necho called >>" + u.Top + "/called\nexec /usr/bin/fusermount3 \"$@\"\n"
	if err := errors.Join(os.Mkdir(bin, 0o755), os.WriteFile(bin+"/fusermount3", []byte(helper), 0o755)); err != nil {
		t.Fatal(err)
	}
	u.Env = append(u.Env, "PATH="+bin+":"+os.Getenv("PATH"))
	if said := u.Shell("command -v fusermount3"); said != bin+"/fusermount3\n" {
		t.Fatalf("in PATH there is %q", said)
	}
	u.Must("mount")
	p := mountwide(u.Status(), "mount_helper")
	u.Must("unmount")
	if _, err := os.Stat(u.Top + "/called"); err == nil {
		t.Error("the planted helper was executed, and had /dev/fuse")
	}
	if !p.Active || !strings.HasPrefix(p.Detail, "/usr/bin/fusermount3") {
		t.Errorf("status does not name the helper: %+v", p)
	}
	u.NothingLeft()
}

// A program of root's in a directory of the user's can be moved away, and a link
// to any other program of root's put there, such as one that reads a script of the
// user's. An upgrade would hand it everything.
func TestNoUpgradeToWhatAUserPlants(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	ours := u.Command
	bin := filepath.Join(filepath.Dir(ours), "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Chown(bin, u.UID, u.UID), installed.Copy(ours, bin+"/tokenfs", installed.Packaged)); err != nil {
		t.Fatal(err)
	}
	u.Command = bin + "/tokenfs"
	u.Must("mount")
	if p := mountwide(u.Status(), "program_trusted"); p.Active || !strings.Contains(p.Detail, "/bin/ belongs to uid 65534") {
		t.Errorf("status of a program that its user can replace: %+v", p)
	}
	u.Shell("cd " + bin + " && mv tokenfs real && cp /bin/sh other")
	for _, plant := range []string{"ln -s /bin/sh tokenfs", "rm tokenfs; mv other tokenfs", "rm tokenfs; mv real tokenfs"} {
		u.Shell("cd " + bin + "; " + plant)
		if said, code := u.End(u.Program(ours, "upgrade")); code == 0 || !strings.Contains(said, "/bin/ belongs to uid 65534") {
			t.Errorf("after %s: status %d: %s", plant, code, said)
		}
	}
	u.Must("unmount")
	u.NothingLeft()
}

func mountwide(s lifecycle.Status, name string) (found lifecycle.Protection) {
	for _, p := range s.Protections {
		if p.Name == name {
			return p
		}
	}
	return found
}
