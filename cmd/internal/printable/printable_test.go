package printable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"az/msal.json": "az/msal.json", "with blank": "with blank", "ünï": "ünï",
		"\x1b[31mred": `"\x1b[31mred"`, "two\nlines": `"two\nlines"`, "not\xffutf8": `"not\xffutf8"`, "\u202edlrow": `"\u202edlrow"`,
	} {
		if got := Name(name); got != want {
			t.Errorf("Name(%q) = %s, want %s", name, got, want)
		}
		if got := Text(name); got != strings.Trim(want, `"`) {
			t.Errorf("Text(%q) = %s, want %s", name, got, want)
		}
	}
}

type lines []string

func (l lines) Error() string   { return strings.Join(l, "\n") }
func (l lines) Lines() []string { return l }

func TestLines(t *testing.T) {
	const forged = "x\ntokenfs: wiped everything"
	path := &fs.PathError{Op: "open", Path: forged, Err: fs.ErrNotExist}
	for _, c := range []struct {
		err  error
		want []string
	}{
		{errors.New("plain"), []string{"plain"}},
		{path, []string{`open x\ntokenfs: wiped everything: file does not exist`}},
		{fmt.Errorf("%s: %w", forged, path), []string{`x\ntokenfs: wiped everything: open x\ntokenfs: wiped everything: file does not exist`}},
		{errors.Join(errors.New("a"), path), []string{"a", `open x\ntokenfs: wiped everything: file does not exist`}},
		{fmt.Errorf("app: %w (as before)", errors.Join(errors.New("a"), errors.New("b"))), []string{"app: a", "b (as before)"}},
		{fmt.Errorf("app: %w", lines{"a:", "  " + forged}), []string{"app: a:", `  x\ntokenfs: wiped everything`}},
		{fmt.Errorf("%w and %w", errors.New("a\n"), errors.New("b")), []string{`a\n and b`}},
	} {
		if got := Lines(c.err); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, want %q", c.err, got, c.want)
		}
	}
}

func TestArgs(t *testing.T) {
	got := fmt.Sprintf("%s|%-4s|%q|%v|%d|%v", Args([]any{"\x1b", "a", "\x1b", time.Second, 3, errors.New("\a")})...)
	if want := `\x1b|a   |"\x1b"|1s|3|\a`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestJSON(t *testing.T) {
	value := map[string]string{"k\u009b31m": "\u202e\U000e0001ü\x7f\n\x1b"}
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got := JSON(text)
	for _, r := range string(got) {
		if r != '\n' && !Graphic(r) {
			t.Errorf("%q has %U", got, r)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, value) {
		t.Errorf("means %q now, %v", back, err)
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b[2J\n\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, text := range append(Lines(fmt.Errorf("%s: %w", s, errors.Join(errors.New(s), lines{s, s}))), Text(s), Name(s), fmt.Sprintf("%v %q", Args([]any{s, s})...)) {
			for _, r := range text {
				if !Graphic(r) {
					t.Errorf("%q becomes %q with %U", s, text, r)
				}
			}
		}
	})
}
