package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is a filesystem of its own, that writes through, in a file that can
// be searched: what was written is in the file, also after it was deleted.
type disk struct{ dir, image string }

func newDisk(t *testing.T) *disk {
	t.Helper()
	// The image is in memory, or writing through would take its time.
	in, err := os.MkdirTemp("/dev/shm", "tokenfs-disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(in) })
	dir, err := os.MkdirTemp("", "tokenfs-disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	d := &disk{dir: dir, image: filepath.Join(in, "image")}
	for _, args := range [][]string{
		{"truncate", "-s", "128M", d.image},
		{"mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", d.image},
		{"mount", "-o", "loop,sync,nodiscard", d.image, d.dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("NOT RUN: no disk to search can be had here: %q: %v: %s: as root, try: modprobe loop", args, err, out)
		}
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

// flush makes sure of what was written through a mapping, too.
func (d *disk) flush(t *testing.T) {
	t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}
