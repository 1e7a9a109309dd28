package apps

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// copyTree copies a file, or a directory with all that is in it, with modes and
// times, and reads the copy back. What to has of that name already goes.
func (e *Engine) copyTree(from, to string) error {
	if err := e.interrupted(); err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: from, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return copyFile(from, to, &st)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err == nil {
			err = os.Symlink(target, to)
		}
		return errors.Join(err, setTimes(to, &st))
	case unix.S_IFDIR:
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := e.copyTree(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
				return err
			}
		}
		return errors.Join(unix.Chmod(to, st.Mode&0o7777), setTimes(to, &st))
	case unix.S_IFSOCK:
		return nil // whoever listens there makes another one
	}
	return fmt.Errorf("%s is neither a file nor a directory nor a link: move it away", from)
}

func copyFile(from, to string, st *unix.Stat_t) (err error) {
	in, err := openQuietly(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	err = crypt.WithBuffer(64<<10, func(buf []byte) error {
		a, b := buf[:len(buf)/2], buf[len(buf)/2:]
		// Not by splice or the like, which leave contents in pages of the kernel's.
		if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, a); err != nil {
			return err
		}
		if err := out.Sync(); err != nil {
			return err
		}
		same, err := sameContents(in, out, a, b)
		if err == nil && !same {
			err = fmt.Errorf("%s was changed while it was copied, or did not arrive whole: stop the app that writes it, then try again", from)
		}
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(unix.Fchmod(int(out.Fd()), st.Mode&0o7777), setTimes(to, st))
}

func sameContents(f, g *os.File, a, b []byte) (bool, error) {
	for off := int64(0); ; {
		n, err := f.ReadAt(a, off)
		m, err2 := g.ReadAt(b, off)
		if err != nil && err != io.EOF || err2 != nil && err2 != io.EOF {
			return false, errors.Join(err, err2)
		}
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if n == 0 {
			return true, nil
		}
		off += int64(n)
	}
}

// openQuietly does not move the access time, where that is ours to say.
func openQuietly(name string) (*os.File, error) {
	const flags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(name, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		f, err = os.OpenFile(name, flags, 0)
	}
	return f, err
}

func setTimes(name string, st *unix.Stat_t) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "set times", Path: name, Err: err}
	}
	return nil
}

// stamps are what tells that a file has been written to, by path.
func stamps(name string, into map[string]unix.Stat_t) {
	filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && !d.IsDir() && unix.Lstat(p, &st) == nil {
			st.Atim, st.Ctim = unix.Timespec{}, unix.Timespec{} // reading and renaming are fine
			into[p] = st
		}
		return nil
	})
}

// erase overwrites what is in a file or tree, and removes it. How much that is
// worth depends on what is below: see erasure.
func (e *Engine) erase(name string) (files int, err error) {
	if err := e.interrupted(); err != nil {
		return 0, err
	}
	st, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if st.IsDir() {
		if st.Mode()&0o700 != 0o700 {
			if err := os.Chmod(name, 0o700); err != nil {
				return 0, err
			}
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return 0, err
		}
		for _, entry := range entries {
			n, err := e.erase(filepath.Join(name, entry.Name()))
			if files += n; err != nil {
				return files, err
			}
		}
	}
	if st.Mode().IsRegular() {
		files++
		if err := overwrite(name, st); err != nil {
			return 0, err
		}
	}
	return files, os.Remove(name)
}

func overwrite(name string, st fs.FileInfo) (err error) {
	if st.Mode()&0o200 == 0 {
		if err := os.Chmod(name, 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const block = 4096
	size := (st.Size() + block - 1) / block * block // with the slack behind its end
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		return err
	}
	return f.Sync()
}

// erasure says what overwriting a file at this place can and cannot do.
func erasure(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "what became of the old blocks is not known"
	}
	copies := map[int64]string{
		unix.BTRFS_SUPER_MAGIC: "btrfs", 0x2fc12fc1: "zfs", 0xca451a4e: "bcachefs",
		unix.F2FS_SUPER_MAGIC: "f2fs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NILFS_SUPER_MAGIC: "nilfs2",
	}
	elsewhere := map[int64]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", 0xff534d42: "SMB", 0xfe534d42: "SMB",
		unix.V9FS_MAGIC: "9p", unix.FUSE_SUPER_MAGIC: "FUSE",
	}
	kind := int64(uint32(st.Type))
	switch {
	case copies[kind] != "":
		return copies[kind] + " writes to new blocks: the old ones, and snapshots, keep the tokens until they are reused"
	case elsewhere[kind] != "":
		return "behind " + elsewhere[kind] + " nobody here knows what became of the old blocks"
	case kind == unix.TMPFS_MAGIC:
		return "it was on tmpfs: what had been swapped out may still be in swap"
	}
	return "an SSD may keep the old blocks until they are reused, and backups and snapshots keep them as well"
}
