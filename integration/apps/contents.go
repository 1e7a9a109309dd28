package apps

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// Secrets pass through this program when it copies a file, and when it looks what
// is in one. They do so in memory that is cleared, see crypt.WithBuffer.

var errNoFile = errors.New("not a regular file")

// withContents gives f what is in a file, as far as it is looked at. f must not
// keep text, nor parts of it.
func withContents(name string, f func(text []byte)) error {
	size, err := sizeOf(name)
	if err != nil {
		return err
	}
	return crypt.WithBuffer(size, func(buf []byte) error {
		text, err := readInto(buf, name)
		if err == nil {
			f(text)
		}
		return err
	})
}

// lookLimit is how much of a file is looked at. Caches are smaller.
const lookLimit = 16 << 20

func sizeOf(name string) (int, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, errNoFile
	}
	return int(min(st.Size, lookLimit)), nil
}

// readInto reads as much of a regular file as there is room for.
func readInto(buf []byte, name string) ([]byte, error) {
	f, err := openQuietly(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errNoFile)
	}
	n, err := io.ReadFull(f, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return buf[:n], err
}
