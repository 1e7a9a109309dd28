// Command manual writes the manual pages and shell completions of the tokenfs
// command. Its one source is what tokenfs help says: so they cannot tell
// anything else. The pages of the unit and of the PAM program are made of the
// unit and of what docs says of them.
//
//	go run ./packaging/manual bin/tokenfs DIRECTORY
//
// makes below DIRECTORY the tree that belongs into /usr/share.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: manual TOKENFS DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

// write makes all files.
func write(program, dir string) error {
	c, err := ask(program)
	if err != nil {
		return err
	}
	unit, err := c.unitPage()
	if err != nil {
		return err
	}
	pam, err := c.pamPage()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"man/man1/tokenfs.1":                     c.commandPage(),
		"man/man5/tokenfs.conf.5":                c.settingsPage(),
		"man/man7/tokenfs.service.7":             unit,
		"man/man8/tokenfs-pam.8":                 pam,
		"bash-completion/completions/tokenfs":    c.bash(),
		"zsh/site-functions/_tokenfs":            c.zsh(),
		"fish/vendor_completions.d/tokenfs.fish": c.fish(),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// help runs tokenfs help.
func help(program string, topic ...string) (string, error) {
	out, err := exec.Command(program, append([]string{"help"}, topic...)...).Output()
	if err != nil {
		return "", fmt.Errorf("%s help %s: %w", program, strings.Join(topic, " "), err)
	}
	return string(out), nil
}
