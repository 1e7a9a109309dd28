package lifecycle

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/handover"
)

func TestLineReader(t *testing.T) {
	long := strings.Repeat("long", 40<<10)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "bytes": iotest.OneByteReader, "with its end": iotest.DataErrReader,
	} {
		want := []string{"{}", "", `{"a":1}`}
		for range 5000 { // more than the buffer has room for
			want = append(want, "a name of a file")
		}
		want = append(want, long, "last")
		l := newLineReader(wrap(strings.NewReader(strings.Join(want, "\n") + "\n{\"b")))
		for i, w := range want {
			line, err := l.next()
			if string(line) != w || err != nil {
				t.Fatalf("%s: line %d is %.40q, not %.40q: %v", name, i, line, w, err)
			}
		}
		if line, err := l.next(); err != io.EOF {
			t.Errorf("%s: behind the last line comes %q, %v", name, line, err)
		}
		if rest := bytes.TrimLeft(l.buf, "\x00"); !bytes.HasPrefix(rest, []byte(`{"b`)) || len(bytes.Trim(rest[3:], "\x00")) > 0 {
			t.Errorf("%s: the buffer has still %.80q", name, rest)
		}
		l.end()
		if len(bytes.Trim(l.buf, "\x00")) > 0 {
			t.Errorf("%s: the buffer is not cleared", name)
		}
	}
	// A connection whose other end was killed with something unread.
	ours, theirs := socketPair(t)
	if _, err := ours.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	l := newLineReader(&handover.RightsReader{Conn: ours})
	if line, err := l.next(); err == nil {
		t.Errorf("a dead process says %q", line)
	}
	l = newLineReader(strings.NewReader(strings.Repeat("x", 2*replyLimit)))
	if _, err := l.next(); err != bufio.ErrTooLong {
		t.Errorf("a line without end: %v", err)
	}
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}
