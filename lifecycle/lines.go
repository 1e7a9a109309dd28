package lifecycle

import (
	"bufio"
	"bytes"
	"io"
)

// lineReader reads lines that names of files are in, and leaves none of them behind:
// each is cleared when the next one is asked for. What a process wrote of a line when
// it was killed is no line.
type lineReader struct {
	in       io.Reader
	buf      []byte
	from, to int // what was read and not yet given
	given    int // where the last line began
}

func newLineReader(in io.Reader) *lineReader {
	return &lineReader{in: in, buf: make([]byte, 64<<10)} // for all but the longest lines
}

func (l *lineReader) next() ([]byte, error) {
	l.clear()
	for {
		if end := bytes.IndexByte(l.buf[l.from:l.to], '\n'); end >= 0 {
			line := l.buf[l.from : l.from+end]
			l.given, l.from = l.from, l.from+end+1
			return line, nil
		}
		if err := l.room(); err != nil {
			return nil, err
		}
		n, err := l.in.Read(l.buf[l.to:])
		if l.to += n; n == 0 && err != nil {
			return nil, err
		}
	}
}

// clear is for the line that was given last.
func (l *lineReader) clear() {
	clear(l.buf[l.given:l.from])
	if l.given = l.from; l.from == l.to {
		l.given, l.from, l.to = 0, 0, 0
	}
}

// room moves what there is of a line to the front, or to a larger buffer.
func (l *lineReader) room() error {
	if l.to < len(l.buf) {
		return nil
	}
	old := l.buf
	if l.from == 0 {
		if len(old) >= replyLimit {
			return bufio.ErrTooLong
		}
		l.buf = make([]byte, 2*len(old))
	}
	n := copy(l.buf, old[l.from:l.to])
	if l.from > 0 {
		old = old[n:]
	}
	clear(old)
	l.given, l.from, l.to = 0, 0, n
	return nil
}

// end clears what is left.
func (l *lineReader) end() { clear(l.buf) }
