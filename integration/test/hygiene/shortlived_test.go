package hygiene

import (
	"os"

	"golang.org/x/sys/unix"
)

// This program can stand in for a version of tokenfs that takes over well in the
// rehearsal of an upgrade, and dies when it has taken the keeper's place. In all
// else it is the real one, which lies beside it.

func shortLivedOf(path string) (real string) { return path + "-real" }

func shortLivedReal() string {
	exe, _ := os.Readlink("/proc/self/exe")
	return shortLivedOf(exe)
}

func isShortLived() bool {
	_, err := os.Stat(shortLivedReal())
	return err == nil
}

func shortLivedMain() {
	real := shortLivedReal()
	if os.Getenv("_TOKENFS_UPGRADE") != "" {
		if os.Mkdir(real+"-rehearsed", 0o700) != nil {
			os.Exit(1)
		}
	}
	panic(unix.Exec(real, os.Args, os.Environ()))
}
