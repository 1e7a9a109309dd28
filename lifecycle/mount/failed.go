package mount

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
)

// A start at login has nobody to tell that it failed. So it leaves a note
// beside the mountpoint, for whoever looks there next.

const noteLimit = 4 << 10

func notePath(mountpoint string) string { return mountpoint + ".failed" }

// NoteFailure says why nothing is mounted at a mountpoint. A note that is there
// already stays: it is the better one. Where the mountpoint is another than the
// usual one, a link to the note is there, too: a shell that greets looks there and
// knows no settings. It leads nowhere once the note is gone.
func NoteFailure(mountpoint, why string) error {
	path := notePath(mountpoint)
	removeLink(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		_, err = f.WriteString(why + "\n")
		f.Close()
	}
	if err != nil && !os.IsExist(err) {
		return fmt.Errorf("leave a note: %w", err)
	}
	if usual, err := DefaultMountpoint(); err == nil && usual != mountpoint {
		removeLink(notePath(usual))
		os.Symlink(path, notePath(usual))
	}
	return nil
}

func removeLink(path string) {
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSymlink != 0 {
		os.Remove(path)
	}
}

// ForgetFailure takes the note of an earlier start away.
func ForgetFailure(mountpoint string) { os.Remove(notePath(mountpoint)) }

// failureNoted is what the note says; empty if there is none.
func failureNoted(mountpoint string) string {
	f, err := os.OpenFile(notePath(mountpoint), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	note := make([]byte, noteLimit)
	n, _ := f.Read(note)
	return string(bytes.TrimSpace(note[:n]))
}

// NotMounted says why, where that is known.
func NotMounted(mountpoint string) error {
	if why := failureNoted(mountpoint); why != "" {
		return fault.Errorf(fault.NotMounted, "nothing is mounted on %s, because the start at login failed: %s", mountpoint, why)
	}
	return fault.Errorf(fault.NotMounted, "nothing is mounted on %s: run tokenfs mount", mountpoint)
}
