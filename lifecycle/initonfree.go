package lifecycle

import (
	"bufio"
	"compress/gzip"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// clearsFreedMemory is the protection by a kernel that zeroes the pages that it takes
// back. Where keys are not in memfd_secret, whose pages it zeroes in any case, nothing
// else does that when keeper and worker are killed at once.
func clearsFreedMemory() Protection {
	const name = "init_on_free"
	switch on, known := initOnFree(); {
	case !known:
		return Protection{name, false, "not known: neither the kernel's command line nor its configuration tells"}
	case !on:
		return Protection{name, false, "the kernel leaves what was in memory that it takes back: should keeper and worker be killed at once, what they held stays there for a dump of the machine's memory, also keys that are in no memfd_secret: boot with init_on_free=1"}
	}
	return Protection{name, true, "the kernel clears all memory that it takes back"}
}

// initOnFree looks once: it is settled at boot.
var initOnFree = sync.OnceValues(func() (on, known bool) {
	var u unix.Utsname
	unix.Uname(&u)
	release := unix.ByteSliceToString(u.Release[:])
	return initOnFreeIn("/proc/cmdline", "/proc/config.gz", "/boot/config-"+release, "/lib/modules/"+release+"/config")
})

// initOnFreeIn reads the kernel's command line, and for its default the first of the
// configurations that there is.
func initOnFreeIn(cmdline string, configs ...string) (on, known bool) {
	line, err := os.ReadFile(cmdline)
	if err != nil {
		return false, false
	}
	for word := range strings.FieldsSeq(string(line)) {
		if word == "--" { // what follows is init's
			break
		}
		if v, ok := strings.CutPrefix(word, "init_on_free="); ok {
			if b, ok := kernelBool(v); ok {
				on, known = b, true // the last one counts
			}
		}
	}
	for _, path := range configs {
		if known {
			break
		}
		on, known = configured(path, "CONFIG_INIT_ON_FREE_DEFAULT_ON")
	}
	return on, known
}

// kernelBool is the kernel's kstrtobool.
func kernelBool(v string) (b, ok bool) {
	switch v = strings.ToLower(v); {
	case strings.HasPrefix(v, "y"), strings.HasPrefix(v, "t"), strings.HasPrefix(v, "1"), strings.HasPrefix(v, "on"):
		return true, true
	case strings.HasPrefix(v, "n"), strings.HasPrefix(v, "f"), strings.HasPrefix(v, "0"), strings.HasPrefix(v, "of"):
		return false, true
	}
	return false, false
}

// configured says whether an option is on in a kernel's configuration; known is false
// where that cannot be read.
func configured(path, option string) (on, known bool) {
	f, err := os.Open(path)
	if err != nil {
		return false, false
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return false, false
		}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		on = on || lines.Text() == option+"=y"
	}
	return on, lines.Err() == nil
}
