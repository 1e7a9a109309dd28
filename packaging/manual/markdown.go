package main

import (
	"fmt"
	"regexp"
	"strings"
)

// section is what a page of docs says below a heading, up to the next one.
func section(page, heading string) (string, error) {
	_, text, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		return "", fmt.Errorf("no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text, nil
}

var (
	markup    = regexp.MustCompile("`([^`]+)`|\\*\\*([^*]+)\\*\\*|\\[([^]]+)\\]\\([^)]*\\)")
	tableRule = regexp.MustCompile(`^\|[-|]+\|$`)
)

// markdown writes the part of Markdown that docs uses: paragraphs, lists, code
// and tables, of which the first cell is what the others tell about.
func markdown(b *strings.Builder, text string) {
	code := false
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "```") && !code:
			code = true
			b.WriteString(".PP\n.RS\n.nf\n")
		case strings.HasPrefix(line, "```"):
			code = false
			b.WriteString(".fi\n.RE\n")
		case code:
			b.WriteString(escape(line) + "\n")
		case line == "":
			b.WriteString(".PP\n")
		case tableRule.MatchString(line):
		case strings.HasPrefix(line, "|"):
			cells := strings.Split(strings.Trim(line, "|"), " | ")
			what, told := strings.TrimSpace(cells[0]), strings.TrimSpace(strings.Join(cells[1:], ": "))
			if what == "" || told == "" { // a heading
				continue
			}
			fmt.Fprintf(b, ".TP\n%s\n%s\n", inline(what), inline(told))
		case strings.HasPrefix(line, "- "):
			fmt.Fprintf(b, ".IP \\(bu 2\n%s\n", inline(line[2:]))
		default:
			b.WriteString(inline(strings.TrimSpace(line)) + "\n")
		}
	}
}

// inline has code and what is bold in bold, and no links.
func inline(line string) string {
	line = markup.ReplaceAllStringFunc(escape(line), func(s string) string {
		m := markup.FindStringSubmatch(s)
		if m[3] != "" {
			return m[3]
		}
		return `\fB` + m[1] + m[2] + `\fP`
	})
	return strings.NewReplacer("…", "...", "µ", `\(mc`, "*", "").Replace(line)
}
