package main

import (
	"fmt"
	"strings"
)

// Manual pages, in man(7)'s language.

func (c command) commandPage() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH TOKENFS 1 \"\" \"tokenfs %s\" \"User Commands\"\n", c.version)
	b.WriteString(".SH NAME\ntokenfs \\- token caches in memory, sealed\n.SH SYNOPSIS\n")
	synopsis, rest, _ := strings.Cut(c.main, "\n\n")
	verbatim(&b, strings.TrimPrefix(synopsis, "usage: "), 7)
	b.WriteString(".SH DESCRIPTION\n")
	blocks(&b, rest)
	b.WriteString(".SH COMMANDS\n")
	for _, v := range c.verbs {
		fmt.Fprintf(&b, ".SS %s\n", escape(v.name))
		synopsis, rest, _ := strings.Cut(v.help, "\n\n")
		verbatim(&b, strings.TrimPrefix(synopsis, "usage: "), 7)
		blocks(&b, rest)
	}
	b.WriteString(".SH EXIT STATUS\n")
	_, codes, _ := strings.Cut(c.codes, "\n")
	for line := range strings.Lines(codes) {
		code, meaning, _ := strings.Cut(strings.TrimSpace(line), "  ")
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape(code), escape(meaning))
	}
	b.WriteString(".SH FILES\n.TP\n.I $XDG_RUNTIME_DIR/tokenfs\nwhere it is mounted\n.TP\n.I $XDG_RUNTIME_DIR/tokenfs.sock\nthe control socket\n" +
		".TP\n.IR ~/.config/tokenfs/config \", \" /etc/tokenfs/config\nsettings\n")
	b.WriteString(".SH SEE ALSO\n.BR tokenfs.conf (5),\n.BR tokenfs.service (7),\n.BR tokenfs\\-pam (8),\n.BR fusermount3 (1),\n.BR systemd.unit (5)\n")
	return b.String()
}

func (c command) settingsPage() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH TOKENFS.CONF 5 \"\" \"tokenfs %s\" \"File Formats\"\n", c.version)
	b.WriteString(".SH NAME\ntokenfs.conf \\- settings of tokenfs\n.SH SYNOPSIS\n.nf\n/etc/tokenfs/config\n~/.config/tokenfs/config\nTOKENFS_* in the environment\n.fi\n.SH DESCRIPTION\n")
	b.WriteString("A line is of the form \\fIkey = value\\fP, or a comment that begins with #, or empty.\nA comment may also stand behind a value, after a blank; a value may stand between\nquotes, and a path may begin with ~/.\nA key that is not known, or that is there twice, is an error.\n")
	blocks(&b, c.settings)
	b.WriteString(".SH SEE ALSO\n.BR tokenfs (1)\n")
	return b.String()
}

// blocks writes what stands between blank lines: prose is filled, lists become
// lists, and whatever has a form of its own keeps it.
func blocks(b *strings.Builder, text string) {
	for block := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n\n") {
		if list, ok := itemsOf(block); ok && !strings.Contains(block, "TOKENFS_SIZE") {
			for _, it := range list {
				if it.what == "" {
					fmt.Fprintf(b, ".PP\n%s\n", escape(it.text))
					continue
				}
				fmt.Fprintf(b, ".TP\n.B %s\n%s\n", escape(it.what), escape(it.text))
			}
			continue
		}
		head, body, _ := strings.Cut(block, "\n")
		switch {
		case strings.HasPrefix(block, " "):
			b.WriteString(".PP\n")
			verbatim(b, block, 0)
		case strings.HasPrefix(body, "    "):
			fmt.Fprintf(b, ".PP\n%s\n.RS\n", escape(strings.ToUpper(head[:1])+head[1:]))
			verbatim(b, body, 4)
			b.WriteString(".RE\n")
		default:
			b.WriteString(".PP\n")
			for line := range strings.Lines(block) {
				b.WriteString(escape(strings.TrimSpace(line)) + "\n")
			}
		}
	}
}

// verbatim writes lines as they are, without the first spaces of each.
func verbatim(b *strings.Builder, text string, indent int) {
	b.WriteString(".nf\n")
	for line := range strings.SplitSeq(text, "\n") {
		n := min(indent, len(line)-len(strings.TrimLeft(line, " ")))
		b.WriteString(escape(line[n:]) + "\n")
	}
	b.WriteString(".fi\n")
}

// escape keeps text from being taken for requests.
func escape(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\e`), "-", `\-`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
