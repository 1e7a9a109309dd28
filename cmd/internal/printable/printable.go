// Package printable makes what comes from outside safe to print. Names of files,
// processes and apps, and so every error about them, can have anything in them:
// sequences that a terminal acts on, and line breaks, which let one line pass
// for two.
package printable

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Graphic says whether a terminal shows a rune, and does nothing else with it.
// Marks that change the direction of text are not graphic.
func Graphic(r rune) bool { return strconv.IsGraphic(r) && r != utf8.RuneError }

// Text writes what is not graphic as Go does between double quotes.
func Text(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && Graphic(r)
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if Graphic(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteToGraphic(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// Name is for a name that stands alone: quoted, if it is not graphic.
func Name(name string) string {
	if quoted := strconv.QuoteToGraphic(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// Lines are those of an error. Errors that are joined have lines of their own,
// and so has one that says so; a line break in any name does not make one.
func Lines(err error) []string {
	if l, ok := err.(interface{ Lines() []string }); ok {
		var lines []string
		for _, line := range l.Lines() {
			lines = append(lines, Text(line))
		}
		return lines
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		var lines []string
		for _, e := range joined.Unwrap() {
			lines = append(lines, Lines(e)...)
		}
		return lines
	}
	if inner := errors.Unwrap(err); inner != nil {
		if before, after, ok := strings.Cut(err.Error(), inner.Error()); ok && inner.Error() != "" {
			lines := Lines(inner)
			lines[0] = Text(before) + lines[0]
			lines[len(lines)-1] += Text(after)
			return lines
		}
	}
	return []string{Text(err.Error())}
}

// Args are those of a format, with what they say made printable.
func Args(args []any) []any {
	safe := make([]any, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			safe[i] = text(arg)
		case error:
			safe[i] = strings.Join(Lines(arg), "\n")
		case fmt.Stringer:
			safe[i] = text(arg.String())
		default:
			safe[i] = arg
		}
	}
	return safe
}

// text is made printable when it is formatted, if it is not quoted anyway.
type text string

func (t text) Format(f fmt.State, verb rune) {
	s := string(t)
	if verb != 'q' {
		s = Text(s)
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), s)
}

// JSON escapes what is not graphic in JSON that is already encoded: such runes
// are in its strings only.
func JSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, func(r rune) bool { return r != '\n' && !Graphic(r) }) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r == '\n' || Graphic(r) || r == utf8.RuneError:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
