package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tokenfs/cmd/internal/conf"
)

// An account is a user as in passwd(5).
type account struct {
	name        string
	uid, gid    int
	home, shell string
}

// lookUp asks for a user by name, who may be known to more than a file.
func lookUp(ctx context.Context, name string) (account, error) {
	line, err := passwd(ctx, name)
	if err != nil {
		return account{}, fmt.Errorf("who is %q: %w", name, err)
	}
	a, err := parseAccount(line)
	if err != nil {
		return account{}, fmt.Errorf("who is %q: %w", name, err)
	}
	return a, nil
}

func passwd(ctx context.Context, name string) (string, error) {
	switch {
	case name == "" || name[0] == '-':
		return "", errors.New("not a login name")
	case isNumber(name): // getent would take it for a uid, and answer with somebody else
		return inFile("/etc/passwd", name)
	}
	line, err := ask(ctx, "getent", "passwd", name)
	if errors.Is(err, exec.ErrNotFound) {
		return inFile("/etc/passwd", name)
	}
	return line, err
}

// isNumber says whether strtoul(3) would read all of a name.
func isNumber(name string) bool {
	digits := strings.TrimLeft(name, " \t\n\v\f\r")
	if digits != "" && (digits[0] == '+' || digits[0] == '-') {
		digits = digits[1:]
	}
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

// ask runs a program that answers from the directories that this host uses.
func ask(ctx context.Context, program string, args ...string) (string, error) {
	said, err := exec.CommandContext(ctx, program, args...).Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s did not answer within %v: nothing is mounted at this login: try tokenfs mount", program, nameLimit)
	}
	return string(said), err
}

func inFile(path, name string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if first, _, ok := strings.Cut(lines.Text(), ":"); ok && first == name {
			return lines.Text(), nil
		}
	}
	return "", fmt.Errorf("%s has no such name", path)
}

func parseAccount(line string) (account, error) {
	f := strings.Split(strings.TrimRight(line, "\n"), ":")
	if len(f) != 7 {
		return account{}, fmt.Errorf("%d fields in passwd", len(f))
	}
	uid, err1 := strconv.ParseUint(f[2], 10, 31)
	gid, err2 := strconv.ParseUint(f[3], 10, 31)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, err
	}
	return account{f[0], int(uid), int(gid), f[5], f[6]}, nil
}

// groups are all that the user is in.
func (a account) groups(ctx context.Context) (all []uint32, err error) {
	said, err := ask(ctx, "id", "-G", a.name)
	for text := range strings.FieldsSeq(said) {
		gid, bad := strconv.ParseUint(text, 10, 31)
		err = errors.Join(err, bad)
		all = append(all, uint32(gid))
	}
	if err != nil {
		return nil, fmt.Errorf("groups of %q: %w", a.name, err)
	}
	return all, nil
}

// wanted are people: no system users, such as a greeter's, and root if root
// says so.
func (a account) wanted() bool {
	switch filepath.Base(a.shell) {
	case "nologin", "false":
		return false
	}
	if a.uid == 0 {
		return rootLogins("/etc/tokenfs/config")
	}
	return a.uid >= 1000 && a.uid != 65534
}

// rootLogins looks at the one setting that is for this program.
func rootLogins(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, l := range conf.Read(f) {
		if l.Key == "root-logins" && l.Err == nil {
			return l.Value == "on"
		}
	}
	return false
}
