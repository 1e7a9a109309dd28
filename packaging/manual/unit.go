package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The pages of what an administrator installs: from the files themselves, and
// from the sections of docs about them.

// sources are read from the module, wherever this is run.
func sources(names ...string) (texts []string, err error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("where the module is: %w", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), name))
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	return texts, nil
}

func (c command) unitPage() (string, error) {
	texts, err := sources("packaging/systemd/tokenfs.service", "docs/install.md")
	if err != nil {
		return "", err
	}
	told, err := section(texts[1], "From login to logout")
	if err != nil {
		return "", fmt.Errorf("docs/install.md: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH TOKENFS.SERVICE 7 \"\" \"tokenfs %s\" \"Miscellaneous\"\n", c.version)
	b.WriteString(".SH NAME\ntokenfs.service \\- the user unit that mounts token caches at login\n.SH SYNOPSIS\ntokenfs.service\n.SH DESCRIPTION\n")
	markdown(&b, told)
	b.WriteString(".SH DIRECTIVES\nWhat the unit sets, and why. A user changes it with\n.BR \"systemctl \\-\\-user edit tokenfs\" ,\nan administrator for all users with\n.BR \"systemctl \\-\\-global edit tokenfs\" .\n")
	directives(&b, texts[0])
	b.WriteString(".SH SEE ALSO\n.BR tokenfs (1),\n.BR tokenfs.conf (5),\n.BR tokenfs\\-pam (8),\n.BR systemd.service (5),\n.BR loginctl (1)\n")
	return b.String(), nil
}

// directives writes those of a unit, each group with the comment before it.
func directives(b *strings.Builder, unit string) {
	var names, why []string
	flush := func() {
		for i, name := range names {
			tag := ".TP"
			if i > 0 {
				tag = ".TQ"
			}
			fmt.Fprintf(b, "%s\n.B %s\n", tag, escape(name))
		}
		if len(names) > 0 {
			b.WriteString(escape(strings.Join(why, " ")) + "\n")
			names, why = nil, nil
		}
	}
	for line := range strings.SplitSeq(unit, "\n") {
		switch {
		case strings.HasPrefix(line, "["):
			flush()
			if why != nil { // what is said of the unit as a whole
				b.WriteString(".PP\n" + escape(strings.Join(why, " ")) + "\n")
				why = nil
			}
			fmt.Fprintf(b, ".SS %s\n", escape(line))
		case strings.HasPrefix(line, "#"):
			if names != nil {
				flush()
			}
			why = append(why, strings.TrimSpace(line[1:]))
		case line != "":
			names = append(names, line)
		}
	}
	flush()
}

func (c command) pamPage() (string, error) {
	texts, err := sources("docs/install.md")
	if err != nil {
		return "", err
	}
	told, err := section(texts[0], "Hosts without a systemd user manager")
	if err != nil {
		return "", fmt.Errorf("docs/install.md: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH TOKENFS\\-PAM 8 \"\" \"tokenfs %s\" \"System Administration\"\n", c.version)
	b.WriteString(".SH NAME\ntokenfs\\-pam \\- mount token caches at login, without a systemd user manager\n" +
		".SH SYNOPSIS\n.nf\nsession optional pam_exec.so quiet stdout /usr/libexec/tokenfs\\-pam\n.fi\n.SH DESCRIPTION\n")
	markdown(&b, told)
	b.WriteString(".SH EXIT STATUS\nAlways 0: a login never fails for it. What went wrong is said on standard output,\nwhich\n.BR pam_exec (8)\nshows to the user if its option stdout is set.\n" +
		".SH SEE ALSO\n.BR tokenfs (1),\n.BR tokenfs.conf (5),\n.BR tokenfs.service (7),\n.BR pam_exec (8)\n")
	return b.String(), nil
}
