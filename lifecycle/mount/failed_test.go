package mount

import (
	"os"
	"testing"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/fault/faulttest"
)

func TestFailureNote(t *testing.T) {
	dir := privateDir(t)
	mountpoint := dir + "/mnt"
	faulttest.Want(t, NotMounted(mountpoint), fault.NotMounted, "run tokenfs mount")

	for _, why := range []string{"there is no /dev/fuse: modprobe fuse", "it was killed"} {
		if err := NoteFailure(mountpoint, why); err != nil {
			t.Fatal(err)
		}
	}
	faulttest.Want(t, NotMounted(mountpoint), fault.NotMounted, "start at login failed", "modprobe fuse") // the first to know knows best
	ForgetFailure(mountpoint)
	faulttest.Want(t, NotMounted(mountpoint), fault.NotMounted, "run tokenfs mount")

	symlink(t, "/etc/hostname", mountpoint+".failed")
	if got := failureNoted(mountpoint); got != "" {
		t.Errorf("followed a link: %q", got)
	}
}

// A shell that greets looks at the usual place, wherever the mount is to be.
func TestFailureNoteElsewhere(t *testing.T) {
	runtime, elsewhere := privateDir(t), privateDir(t)+"/mnt"
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	usual := runtime + "/tokenfs"
	read := func() string { text, _ := os.ReadFile(usual + ".failed"); return string(text) }
	for range 2 { // also where an earlier one has left its link
		if err := NoteFailure(elsewhere, "no device"); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != "no device\n" {
			t.Errorf("at the usual place: %q", got)
		}
		ForgetFailure(elsewhere)
		if got := read(); got != "" {
			t.Errorf("then: %q", got)
		}
	}
	if err := NoteFailure(usual, "no memory"); err != nil {
		t.Fatal(err)
	}
	if got := failureNoted(usual); got != "no memory" {
		t.Errorf("of the usual place itself: %q", got)
	}
	if err := NoteFailure(elsewhere, "no device"); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "no memory\n" {
		t.Errorf("a note gave way to a link: %q", got)
	}
}
