package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// exchange swaps two names. Where the filesystem cannot do that at once (NFS,
// for one) it takes three renames, and settleExchange ends what was interrupted.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return exchangeByThree(a, b, func(string) {})
	}
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%s cannot be renamed: it is of a lower layer of an overlay filesystem, as of a container's image: use tokenfs env or tokenfs run there", b)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return nil
}

func exchangeByThree(a, b string, step func(string)) error {
	for _, r := range [][2]string{{b, between(a)}, {a, b}, {between(a), a}} {
		if err := os.Rename(r[0], r[1]); err != nil {
			return err
		}
		step("renamed")
	}
	return nil
}

func between(a string) string { return a + ".swap" }

// settleExchange completes exchangeByThree, or takes it back.
func settleExchange(a, b string) error {
	if _, err := os.Lstat(between(a)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(a); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(between(a), a)
	}
	return os.Rename(between(a), b)
}
