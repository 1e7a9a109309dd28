package mount

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

// FSType is how our mounts show in the mount table.
const FSType = "fuse.tokenfs"

// Entry is a line of /proc/self/mountinfo, see proc_pid_mountinfo(5).
// Everything we ask about a mount is asked there and not of the mount itself,
// because the table answers also when nobody serves the mount.
type Entry struct {
	ID, Parent int
	Dev        string // major:minor
	Root       string // which part of the filesystem is mounted here
	Point      string
	Type       string
	Source     string
	Options    string // of this mount
	Super      string // options of the filesystem, as opposed to this mount
}

// Owner is the uid that mounted a FUSE filesystem.
func (e Entry) Owner() (int, bool) {
	for option := range strings.SplitSeq(e.Super, ",") {
		if v, ok := strings.CutPrefix(option, "user_id="); ok {
			uid, err := strconv.Atoi(v)
			return uid, err == nil
		}
	}
	return 0, false
}

// Ours is a tokenfs that this user mounted.
func (e Entry) Ours() bool {
	uid, ok := e.Owner()
	return e.Type == FSType && ok && uid == os.Geteuid()
}

// Same says whether two readings of the table show the same mount. Numbers are
// used again, as soon as what had them is unmounted; options can change.
func (e Entry) Same(as Entry) bool {
	return e.ID == as.ID && e.Dev == as.Dev && e.Point == as.Point
}

const TablePath = "/proc/self/mountinfo"

func Table() ([]Entry, error) {
	f, err := os.Open(TablePath)
	if err != nil {
		return nil, fmt.Errorf("mount table: %w: mount /proc", err)
	}
	defer f.Close()
	return parseMountinfo(f)
}

func parseMountinfo(r io.Reader) ([]Entry, error) {
	var table []Entry
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
		e := Entry{ID: id, Parent: parent, Dev: l[2], Root: Unescape(l[3]), Point: Unescape(l[4]), Options: l[5], Type: r[0], Source: Unescape(r[1])}
		e.Super = r[len(r)-1]
		table = append(table, e)
	}
	return table, lines.Err()
}

// Unescape undoes the kernel's \ooo for blanks and backslashes.
func Unescape(s string) string {
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

// Top finds what is mounted at path. Mounts on the same path stack: each
// is the parent of the one above it.
func Top(table []Entry, path string) (Entry, bool) {
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
	return Entry{}, false
}

// At is Top of the table as it is now.
func At(path string) (e Entry, found bool, err error) {
	table, err := Table()
	if err != nil {
		return e, false, err
	}
	e, found = Top(table, path)
	return e, found, nil
}

type liveness int

const (
	Alive liveness = iota
	Gone           // "transport endpoint is not connected"
	Hung           // somebody holds the connection and does not answer
)

// probeTimeout is how long a healthy filesystem may take to say that it is there.
const probeTimeout = 5 * time.Second

// Probe asks the mount itself. It must be statfs: attributes are cached, and a
// cached answer comes also from a dead mount.
func Probe(path string) liveness {
	result := make(chan error, 1)
	go func() { // stays behind, in a killable sleep, if the mount hangs
		var st unix.Statfs_t
		result <- unix.Statfs(path, &st)
	}()
	select {
	case err := <-result:
		if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
			return Gone
		}
		return Alive
	case <-time.After(probeTimeout):
		return Hung
	}
}
