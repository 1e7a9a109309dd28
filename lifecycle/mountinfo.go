package lifecycle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fsType is how our mounts show in the mount table.
const fsType = "fuse.tokenfs"

// mountEntry is a line of /proc/self/mountinfo, see proc_pid_mountinfo(5).
// Everything we ask about a mount is asked there and not of the mount itself,
// because the table answers also when nobody serves the mount.
type mountEntry struct {
	ID, Parent int
	Dev        string // major:minor
	Root       string // which part of the filesystem is mounted here
	Point      string
	Type       string
	Source     string
	Options    string // of this mount
	Super      string // options of the filesystem, as opposed to this mount
}

// owner is the uid that mounted a FUSE filesystem.
func (e mountEntry) owner() (int, bool) {
	for option := range strings.SplitSeq(e.Super, ",") {
		if v, ok := strings.CutPrefix(option, "user_id="); ok {
			uid, err := strconv.Atoi(v)
			return uid, err == nil
		}
	}
	return 0, false
}

// ours is a tokenfs that this user mounted.
func (e mountEntry) ours() bool {
	uid, ok := e.owner()
	return e.Type == fsType && ok && uid == os.Geteuid()
}

// same says whether two readings of the table show the same mount. Numbers are
// used again, as soon as what had them is unmounted; options can change.
func (e mountEntry) same(as mountEntry) bool {
	return e.ID == as.ID && e.Dev == as.Dev && e.Point == as.Point
}

const mountTablePath = "/proc/self/mountinfo"

func mountTable() ([]mountEntry, error) {
	f, err := os.Open(mountTablePath)
	if err != nil {
		return nil, fmt.Errorf("mount table: %w: mount /proc", err)
	}
	defer f.Close()
	return parseMountinfo(f)
}

func parseMountinfo(r io.Reader) ([]mountEntry, error) {
	var table []mountEntry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			return nil, fmt.Errorf("mount table: line %q has too few fields", lines.Text())
		}
		id, err1 := strconv.Atoi(l[0])
		parent, err2 := strconv.Atoi(l[1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("mount table: line %q: %w", lines.Text(), err)
		}
		e := mountEntry{ID: id, Parent: parent, Dev: l[2], Root: unescape(l[3]), Point: unescape(l[4]), Options: l[5], Type: r[0], Source: unescape(r[1])}
		e.Super = r[len(r)-1]
		table = append(table, e)
	}
	return table, lines.Err()
}

// unescape undoes the kernel's \ooo for blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// topMount finds what is mounted at path. Mounts on the same path stack: each
// is the parent of the one above it.
func topMount(table []mountEntry, path string) (mountEntry, bool) {
	covered := make(map[int]bool)
	for _, e := range table {
		if e.Point == path {
			covered[e.Parent] = true
		}
	}
	for i := len(table) - 1; i >= 0; i-- {
		if e := table[i]; e.Point == path && !covered[e.ID] {
			return e, true
		}
	}
	return mountEntry{}, false
}

// mountedAt is topMount of the table as it is now.
func mountedAt(path string) (e mountEntry, found bool, err error) {
	table, err := mountTable()
	if err != nil {
		return e, false, err
	}
	e, found = topMount(table, path)
	return e, found, nil
}

type liveness int

const (
	alive liveness = iota
	gone           // "transport endpoint is not connected"
	hung           // somebody holds the connection and does not answer
)

// probeTimeout is how long a healthy filesystem may take to say that it is there.
const probeTimeout = 5 * time.Second

// probe asks the mount itself. It must be statfs: attributes are cached, and a
// cached answer comes also from a dead mount.
func probe(path string) liveness {
	result := make(chan error, 1)
	go func() { // stays behind, in a killable sleep, if the mount hangs
		var st unix.Statfs_t
		result <- unix.Statfs(path, &st)
	}()
	select {
	case err := <-result:
		if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
			return gone
		}
		return alive
	case <-time.After(probeTimeout):
		return hung
	}
}
