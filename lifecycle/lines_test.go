package lifecycle

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
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
	l := newLineReader(strings.NewReader(strings.Repeat("x", 2*replyLimit)))
	if _, err := l.next(); err != bufio.ErrTooLong {
		t.Errorf("a line without end: %v", err)
	}
}
