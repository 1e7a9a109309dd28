package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
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
}

// Only tui.go prints: it knows how to make names safe.
func TestOnePlacePrints(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if name == "tui.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if of, ok := s.X.(*ast.Ident); ok && (of.Name == "os" && (s.Sel.Name == "Stdout" || s.Sel.Name == "Stderr") ||
					of.Name == "fmt" && strings.Contains(s.Sel.Name, "Print")) {
					t.Errorf("%v: %s.%s", set.Position(n.Pos()), of.Name, s.Sel.Name)
				}
			}
			return true
		})
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
