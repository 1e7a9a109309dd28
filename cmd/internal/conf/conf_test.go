package conf

import (
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		"size = 16M":                       "size=16M",
		"  size=16M\t\r\n":                 "size=16M",
		"\ufeffsize = 16M\n":               "size=16M",
		"# comment\n\n#size = 1\nsize = 2": "size=2",
		"secretmem = off     # why":        "secretmem=off",
		"secretmem = off\t#why":            "secretmem=off",
		"mountpoint = /a#b/c d":            "mountpoint=/a#b/c d",
		`mountpoint = "/a #b" # why`:       "mountpoint=/a #b",
		"mountpoint = '/a \"b'":            `mountpoint=/a "b`,
		"grace = # nothing":                "grace=",
		"options = a=b,c=d":                "options=a=b,c=d",
	} {
		lines := Read(strings.NewReader(text))
		if len(lines) != 1 || lines[0].Err != nil || lines[0].Key+"="+lines[0].Value != want {
			t.Errorf("%q: %+v, want %s", text, lines, want)
		}
	}
	for text, want := range map[string]string{
		"size":                            `"size" is not of the form key = value`,
		"= 3":                             "key = value",
		"[section]":                       "key = value",
		`mountpoint = "/a`:                "quote has no end",
		`mountpoint = "/a"b`:              `"b" comes after the value`,
		"# " + strings.Repeat("x", 1<<17): "too long",
	} {
		lines := Read(strings.NewReader(text))
		if len(lines) != 1 || lines[0].Err == nil || !strings.Contains(lines[0].Err.Error(), want) {
			t.Errorf("%.20q: %+v, want an error with %q", text, lines, want)
		}
	}
	lines := Read(strings.NewReader("a = 1\nb\nc = 3"))
	if len(lines) != 3 || lines[1].Number != 2 || lines[1].Err == nil || lines[2].Value != "3" {
		t.Errorf("%+v", lines)
	}
}
