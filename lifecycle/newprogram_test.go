package lifecycle

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// event is one as inotify(7) gives it.
func event(mask uint32, name string) []byte {
	var b bytes.Buffer
	padded := make([]byte, (len(name)+16)&^15)
	copy(padded, name)
	if name == "" {
		padded = nil
	}
	for _, field := range []any{int32(1), mask, uint32(0), uint32(len(padded))} {
		binary.Write(&b, binary.NativeEndian, field)
	}
	return append(b.Bytes(), padded...)
}

func TestEventsConcern(t *testing.T) {
	join := func(events ...[]byte) []byte { return bytes.Join(events, nil) }
	for what, c := range map[string]struct {
		events        []byte
		concern, over bool
	}{
		"nothing":               {nil, false, false},
		"another file":          {event(unix.IN_CREATE, "bash"), false, false},
		"a longer path's end":   {event(unix.IN_CREATE, "my-tokenfs"), false, false},
		"the file":              {event(unix.IN_MOVED_TO, "tokenfs"), true, false},
		"before it is there":    {event(unix.IN_CREATE, "tokenfs.dpkg-new"), true, false},
		"the second of two":     {join(event(unix.IN_CREATE, "bash"), event(unix.IN_DELETE, "tokenfs")), true, false},
		"some were lost":        {event(unix.IN_Q_OVERFLOW, ""), true, false},
		"the directory is gone": {event(unix.IN_IGNORED, ""), false, true},
		"half an event":         {event(unix.IN_CREATE, "tokenfs")[:20], false, false},
	} {
		if concern, over := eventsConcern(c.events, "tokenfs"); concern != c.concern || over != c.over {
			t.Errorf("%s: %v, %v", what, concern, over)
		}
	}
}

// Each way in which a file comes to be another one is noticed.
func TestWatchFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokenfs")
	changed, err := watchFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"made", func() error { return os.WriteFile(path, []byte("1"), 0o755) }},
		{"written", func() error { return os.WriteFile(path, []byte("2"), 0o755) }},
		{"given another mode", func() error { return os.Chmod(path, 0o711) }},
		{"replaced", func() error {
			if err := os.WriteFile(path+".new", []byte("3"), 0o755); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}},
		{"removed", func() error { return os.Remove(path) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		select {
		case _, ok := <-changed:
			if !ok {
				t.Fatalf("%s: the watch ended", step.what)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not noticed", step.what)
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for end := time.After(10 * time.Second); ; {
		select {
		case _, ok := <-changed:
			if !ok {
				return
			}
		case <-end:
			t.Fatal("the directory is gone, and nobody is told that nothing more will come")
		}
	}
}

func TestWatchFileThatCannotBeWatched(t *testing.T) {
	if _, err := watchFile(filepath.Join(t.TempDir(), "no", "such")); err == nil {
		t.Error("a directory that is not there is watched")
	}
}

// A missing program was removed only if root's mark names it.
func TestMarkedRemoved(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "removed")
	if markedRemoved(mark, "/usr/bin/tokenfs") {
		t.Error("without a mark")
	}
	if err := os.WriteFile(mark, []byte("/usr/bin/tokenfs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if markedRemoved(mark, "/usr/bin/tokenfs") {
		t.Errorf("by a mark in %s, which is not root's alone", dir)
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root to make a mark of root's")
	}
	roots, err := os.MkdirTemp("/run", "tokenfs-test")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(roots)
	mark = filepath.Join(roots, "removed")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want bool
	}{{"/usr/bin/tokenfs\n", 0o644, true}, {"/usr/local/bin/tokenfs\n", 0o644, false}, {"", 0o644, false}, {"/usr/bin/tokenfs\n", 0o666, false}} {
		if err := os.WriteFile(mark, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(mark, c.mode); err != nil {
			t.Fatal(err)
		}
		if got := markedRemoved(mark, "/usr/bin/tokenfs"); got != c.want {
			t.Errorf("%q with mode %o: %v", c.text, c.mode, got)
		}
	}
}

// No program is executed in the middle of the end: it would go on with nothing,
// and the end would never come.
func TestNoExecInTheMiddleOfTheEnd(t *testing.T) {
	asked, end := context.WithCancel(t.Context())
	end()
	u := &upgrading{daemon: &daemon{asked: asked}}
	if err := u.exec(); err == nil || !strings.Contains(err.Error(), "about to end") {
		t.Errorf("after it was asked to end: %v", err)
	}
}
