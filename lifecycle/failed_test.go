package lifecycle

import (
	"os"
	"testing"
)

func TestFailureNote(t *testing.T) {
	dir := privateDir(t)
	mountpoint := dir + "/mnt"
	_, err := dial(mountpoint)
	wantFault(t, err, NotMounted, "run tokenfs mount")

	for _, why := range []string{"there is no /dev/fuse: modprobe fuse", "it was killed"} {
		if err := NoteFailure(mountpoint, why); err != nil {
			t.Fatal(err)
		}
	}
	_, err = dial(mountpoint)
	wantFault(t, err, NotMounted, "start at login failed", "modprobe fuse") // the first to know knows best
	ForgetFailure(mountpoint)
	_, err = dial(mountpoint)
	wantFault(t, err, NotMounted, "run tokenfs mount")

	symlink(t, "/etc/hostname", mountpoint+".failed")
	if got := failureNoted(mountpoint); got != "" {
		t.Errorf("followed a link: %q", got)
	}
}

func TestClearDeadFindsNothing(t *testing.T) {
	dir := privateDir(t)
	for _, path := range []string{dir + "/mnt", dir + "/missing/mnt"} {
		if cleared, err := ClearDead(path); err != nil || cleared != 0 {
			t.Errorf("%s: %d, %v", path, cleared, err)
		}
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left %v", names)
	}
}
