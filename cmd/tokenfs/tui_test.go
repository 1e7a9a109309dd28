package main

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 16 << 30: "16 GiB", 5 << 40: "5 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{0: "now", 59 * time.Second: "59s ago", 3 * time.Minute: "3m ago", 90 * time.Minute: "1h 30m ago", 72 * time.Hour: "3d ago"} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for name, want := range map[string]string{
		"az/msal.json": "az/msal.json", "with blank": "with blank", "ünï": "ünï",
		"\x1b[31mred": `"\x1b[31mred"`, "two\nlines": `"two\nlines"`, "not\xffutf8": `"not\xffutf8"`, "\u202edlrow": `"\u202edlrow"`,
	} {
		if got := fileName(name); got != want {
			t.Errorf("fileName(%q) = %s, want %s", name, got, want)
		}
	}
}

// Every verb has help, with an example that names it, and the table of exit
// codes has each number once.
func TestHelpIsComplete(t *testing.T) {
	for name := range verbs {
		text, ok := topics[name]
		if !ok || !strings.HasPrefix(text, "usage: tokenfs "+name) || !strings.Contains(text, "    $ tokenfs "+name) {
			t.Errorf("help on %s: %.60q", name, text)
		}
		if !strings.Contains(usage, "tokenfs "+name) || !strings.Contains(usage, "\n  "+name) {
			t.Errorf("usage does not tell about %s", name)
		}
	}
	for key := range keys {
		if !strings.Contains(settingsUsage, envName(key)) {
			t.Errorf("help on settings does not tell about %s", key)
		}
	}
	for i, e := range exitCodes {
		if i > 0 && e.code <= exitCodes[i-1].code || e.code < exitRun && int(e.code) != i {
			t.Errorf("exit code %d stands at %d", e.code, i)
		}
		if r := []rune(e.meaning); unicode.IsUpper(r[0]) || r[len(r)-1] == '.' {
			t.Errorf("%q breaks the rules of tui.go", e.meaning)
		}
	}
	for _, text := range topics {
		for line := range strings.SplitSeq(text, "\n") {
			if len(line) > 90 {
				t.Errorf("too wide for a terminal: %q", line)
			}
		}
	}
}
