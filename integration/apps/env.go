package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Variable of the environment.
type Variable struct{ Name, Value string }

// Variables are those that redirect an application without any link, for
// places that are made from nothing, such as containers.
func (e *Engine) Variables(a App) (vars []Variable) {
	s, err := loadState(List(e.Dirs), e.Dirs.Home)
	for i := range a.Places {
		p := &a.Places[i]
		if p.Variable == "" {
			continue
		}
		name := p.Name
		if err == nil && s.find(e.Dirs.Expand(p.Dir), p.File) != nil {
			name = s.find(e.Dirs.Expand(p.Dir), p.File).Name
		}
		vars = append(vars, Variable{p.Variable, filepath.Join(e.Mountpoint, name, p.Names, p.File)})
	}
	for _, s := range a.Settings {
		vars = append(vars, Variable{s.Variable, s.Value})
	}
	return vars
}

// Formats that variables can be written in.
var Formats = []string{"sh", "fish", "environment.d", "dockerfile"}

// Format writes variables in one of Formats.
func Format(vars []Variable, format string) (string, error) {
	var b strings.Builder
	for _, v := range vars {
		switch format {
		case "sh":
			fmt.Fprintf(&b, "export %s='%s'\n", v.Name, strings.ReplaceAll(v.Value, "'", `'\''`))
		case "fish":
			fmt.Fprintf(&b, "set -gx %s '%s'\n", v.Name, strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(v.Value))
		case "environment.d":
			fmt.Fprintf(&b, "%s=\"%s\"\n", v.Name, escape(v.Value))
		case "dockerfile":
			fmt.Fprintf(&b, "ENV %s=\"%s\"\n", v.Name, escape(v.Value))
		default:
			return "", usagef("--format %q is not known: there are %s", format, strings.Join(Formats, ", "))
		}
	}
	return b.String(), nil
}

// escape is for what environment.d and Dockerfiles read between double quotes.
func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(value)
}

// variablesFile is where systemd's user manager reads variables. It does not
// reach shells that were opened by ssh or on a console.
func (e *Engine) variablesFile() string {
	return filepath.Join(e.Dirs.Home, ".config/environment.d/60-tokenfs.conf")
}

// writeVariables sets what linked applications need variables for.
func (e *Engine) writeVariables(s *state) error {
	var vars []Variable
	for _, l := range s.Links {
		if l.Phase == linking || l.Phase == leaving {
			continue
		}
		if l.Variable != "" {
			vars = append(vars, Variable{l.Variable, filepath.Join(e.target(l), l.File)})
		}
		for _, name := range l.Apps {
			if a, err := Find(name); err == nil {
				for _, setting := range a.Settings {
					v := Variable{setting.Variable, setting.Value}
					if !slices.Contains(vars, v) {
						vars = append(vars, v)
					}
				}
			}
		}
	}
	name := e.variablesFile()
	if len(vars) == 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		os.Remove(filepath.Dir(name)) // if that is empty now
		return nil
	}
	text, err := Format(vars, "environment.d")
	if err != nil {
		return err
	}
	text = "# Written by tokenfs link; tokenfs unlink takes it away.\n" + text
	if old, err := os.ReadFile(name); err == nil && string(old) == text {
		return nil
	}
	return replaceFile(name, []byte(text), 0o644)
}

// Linked are the names of the linked applications.
func (e *Engine) Linked() (names []string, err error) {
	s, err := loadState(List(e.Dirs), e.Dirs.Home)
	if err != nil {
		return nil, err
	}
	for _, l := range s.Links {
		for _, name := range l.Apps {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}
