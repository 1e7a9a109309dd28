// Package docs tests that the documentation tells what the programs do.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const page = "troubleshooting.md"

// What is in the page's tables first is what is looked up: error texts, with …
// where something else stands each time.
var entry = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")

func entries(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range entry.FindAllStringSubmatch(string(text), -1) {
		for cell := range strings.SplitSeq(m[1], "<br>") {
			all = append(all, strings.Trim(cell, "` "))
		}
	}
	return all
}

// Every error text can be looked up, and none that is no more.
func TestErrorTextsCanBeLookedUp(t *testing.T) {
	told, texts := entries(t), errorTexts(t)
	if len(texts) < 100 {
		t.Fatalf("only %d error texts found in the sources", len(texts))
	}
	for text, where := range texts {
		if !slices.Contains(told, text) {
			t.Errorf("%s: %s lacks a row that begins: | `%s` |", where, page, text)
		}
	}
	for i, text := range told {
		if _, ok := texts[text]; !ok {
			t.Errorf("%s: no program says %q any more: leave it out", page, text)
		}
		if slices.Contains(told[:i], text) {
			t.Errorf("%s: %q is there twice", page, text)
		}
	}
}

// errorTexts are those in everything that is linked into the programs, with the
// place of one that says so.
func errorTexts(t *testing.T) map[string]string {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-f", `{{if .Module}}{{if .Module.Main}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`,
		"tokenfs/cmd/tokenfs", "tokenfs/cmd/tokenfs-pam")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	files, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	texts := map[string]string{}
	for path := range strings.FieldsSeq(string(files)) {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		visit := func(n ast.Node) bool {
			for _, literal := range saidBy(n) {
				text := entryOf(literal)
				if text == "" {
					continue
				}
				at := set.Position(n.Pos())
				texts[text] = filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path) + ":" + strconv.Itoa(at.Line)
			}
			return true
		}
		ast.Inspect(file, visit)
	}
	return texts
}

// What makes an error, or prints one: the names of functions, of which the first
// literal is what they say.
var makers = map[string]bool{"Errorf": true, "usageErrorf": true, "usagef": true, "faultf": true, "complainf": true, "Warnf": true, "Say": true, "logf": true}

// saidBy is what a node says if it makes an error. So does what an Error method
// returns, or makes with Sprintf.
func saidBy(n ast.Node) (literals []string) {
	switch n := n.(type) {
	case *ast.CallExpr:
		name, of := "", ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
			if x, ok := f.X.(*ast.Ident); ok {
				of = x.Name
			}
		}
		if !makers[name] && (of != "errors" || name != "New") {
			return nil
		}
		for _, arg := range n.Args {
			if text := constant(arg); text != "" {
				return []string{text}
			}
		}
	case *ast.FuncDecl:
		if n.Name.Name != "Error" && n.Name.Name != "Lines" || n.Recv == nil || n.Body == nil {
			return nil
		}
		ast.Inspect(n.Body, func(n ast.Node) bool {
			if lit, ok := n.(ast.Expr); ok {
				if text := constant(lit); strings.Contains(text, " ") {
					literals = append(literals, text)
					return false
				}
			}
			return true
		})
	}
	return literals
}

// constant is the text of literals, also of some that are joined.
func constant(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, _ := strconv.Unquote(e.Value)
			return text
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			x, y := constant(e.X), constant(e.Y)
			if x != "" && y == "" {
				y = "…"
			}
			return x + y
		}
	}
	return ""
}

var (
	verb   = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
	before = regexp.MustCompile(`^(?:tokenfs: |warning: |…: )+`)
	after  = regexp.MustCompile(`(?:[:, ]*(?:…|\(…\)))+$|,$`)
	words  = regexp.MustCompile(`[a-z]{2}[^ ]* .*[a-z]{2}`)
)

// entryOf is how a text stands in the page: without what it only passes on, such
// as the cause at its end. A single word with the cause behind it says nothing
// itself, and nobody can help what is an error of ours: one row is for all those.
func entryOf(literal string) string {
	text := verb.ReplaceAllString(strings.TrimSpace(literal), "…")
	text = strings.ReplaceAll(text, "%%", "%")
	text = strings.ReplaceAll(text, "……", "…")
	text = before.ReplaceAllString(text, "")
	text = after.ReplaceAllString(text, "")
	if strings.HasPrefix(text, "internal error") {
		return "internal error"
	}
	if !words.MatchString(text) {
		return ""
	}
	return text
}
