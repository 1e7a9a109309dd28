// Package conf reads the files of settings: lines of "key = value". It knows
// nothing of keys and what they mean.
package conf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Line is one that is neither empty nor a comment.
type Line struct {
	Number     int
	Key, Value string
	Err        error // it cannot be read
}

// Read reads all lines, also those behind one that cannot be read. A value may
// stand between quotes; a comment begins with # at the beginning of a line, or
// behind a blank.
func Read(r io.Reader) (all []Line) {
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		text := lines.Text()
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff") // some editors begin a file with that
		}
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		l := Line{Number: n}
		key, value, ok := strings.Cut(text, "=")
		if l.Key = strings.TrimSpace(key); ok && l.Key != "" {
			l.Value, l.Err = unquote(strings.TrimSpace(value))
		} else {
			l.Err = fmt.Errorf("%q is not of the form key = value", text)
		}
		all = append(all, l)
	}
	if err := lines.Err(); err != nil {
		all = append(all, Line{Number: n + 1, Err: err})
	}
	return all
}

// unquote takes a value out of its quotes, and away from a comment.
func unquote(text string) (string, error) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		for i := range len(text) {
			if text[i] == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t') {
				return strings.TrimSpace(text[:i]), nil
			}
		}
		return text, nil
	}
	value, rest, ok := strings.Cut(text[1:], text[:1])
	if !ok {
		return "", errors.New("a quote has no end")
	}
	if rest = strings.TrimSpace(rest); rest != "" && rest[0] != '#' {
		return "", fmt.Errorf("%q comes after the value: begin a comment with #", rest)
	}
	return value, nil
}
