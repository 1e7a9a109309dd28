package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are what people read, by their path from here.
func pages(t *testing.T) map[string]string {
	t.Helper()
	here, err := filepath.Glob("*.md")
	if err != nil || len(here) < 4 {
		t.Fatalf("pages found: %v, %v", here, err)
	}
	all := map[string]string{}
	for _, path := range append(here, "../README.md", "../SECURITY.md") {
		all[path] = read(t, path)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	shown    = regexp.MustCompile("(?s)\n```.*?\n```|`[^`\n]+`")
	command  = regexp.MustCompile(`\btokenfs ([a-z]+)\b([^|\n` + "`" + `#;)']*)`)
	option   = regexp.MustCompile(`--[a-z][a-z-]+`)
	makes    = regexp.MustCompile(`\bmake ((?:[a-z][a-z-]* ?)+)`)
	target   = regexp.MustCompile(`(?m)^([a-z-]+):`)
	verbs    = regexp.MustCompile("(?s)const ([a-z]*)[uU]sage = `(.*?)`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// Commands that the pages show are commands that there are.
func TestCommandsExist(t *testing.T) {
	usage := map[string]string{"help": "", "version": ""}
	for _, m := range verbs.FindAllStringSubmatch(read(t, "../cmd/tokenfs/usage.go"), -1) {
		usage[m[1]] = m[2]
	}
	var targets []string
	for _, m := range target.FindAllStringSubmatch(read(t, "../Makefile"), -1) {
		targets = append(targets, m[1])
	}
	found := 0
	for path, text := range pages(t) {
		for _, code := range shown.FindAllString(entry.ReplaceAllString(text, ""), -1) {
			for _, m := range command.FindAllStringSubmatch(code, -1) {
				found++
				told, ok := usage[m[1]]
				if !ok {
					t.Errorf("%s: there is no command %q: %s", path, m[1], code)
				}
				ours, _, _ := strings.Cut(m[2], " -- ") // what follows is another program's
				for _, o := range option.FindAllString(ours, -1) {
					if ok && !strings.Contains(told, o) && o != "--help" {
						t.Errorf("%s: tokenfs %s has no %s: %s", path, m[1], o, code)
					}
				}
			}
			for _, m := range makes.FindAllStringSubmatch(code, -1) {
				for word := range strings.FieldsSeq(m[1]) {
					found++
					if !slices.Contains(targets, word) {
						t.Errorf("%s: there is no make %s: %s", path, word, code)
					}
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d commands found in the pages", found)
	}
}

// Links lead to files and headings that there are.
func TestLinksLeadSomewhere(t *testing.T) {
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			file, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if heading != "" && !slices.Contains(anchors(read(t, to)), heading) {
				t.Errorf("%s: %s has no heading %q", path, to, heading)
			}
		}
	}
}

// anchors are those of a page's headings, as forges make them.
func anchors(text string) (all []string) {
	for _, m := range headings.FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}
