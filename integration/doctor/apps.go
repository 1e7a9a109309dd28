package doctor

import (
	"fmt"
	"path/filepath"

	"tokenfs/integration/apps"
)

// What apps do with their tokens, linked or not.

func plaintext(m *Machine, found *findings) {
	r, err := m.Apps.Survey()
	if err != nil {
		found.unreadable(err)
		return
	}
	seen := make(map[string]bool)
	for _, a := range r.Apps {
		var fresh []string
		for _, name := range a.Plaintext {
			if !seen[name] {
				seen[name] = true
				fresh = append(fresh, m.Apps.Dirs.Contract(name))
			}
		}
		if len(fresh) == 0 {
			continue
		}
		what := fmt.Sprintf("%q", fresh[0])
		if len(fresh) > 1 {
			what += fmt.Sprintf(" and %d more", len(fresh)-1)
		}
		found.add(Exposed, a.Run, "secrets of %s are on disk in plain sight: %s", a.Name, what)
	}
}

func links(m *Machine, found *findings) {
	r, err := m.Apps.Survey()
	if err != nil {
		return // plaintext says so
	}
	for _, a := range r.Apps {
		if a.Halfway {
			found.add(Broken, a.Run, "linking or unlinking %s was interrupted", a.Name)
		}
		for _, p := range a.Places {
			if p.Broken != "" {
				found.add(Broken, a.Run, "%s is not redirected any more: %s %s", a.Name, m.Apps.Dirs.Contract(p.Path), p.Broken)
			}
		}
		for _, name := range a.Replaced {
			found.add(Weak, "tokenfs link "+apps.ShellWord(a.Name), "%s: %s was replaced, and ends with the session instead of staying on disk", a.Name, m.Apps.Dirs.Contract(name))
		}
		if n := len(a.Unknown); n > 0 {
			found.add(Note, "copy them to "+apps.ShellWord(m.Apps.Dirs.Contract(filepath.Dir(a.Unknown[0])))+".tokenfs if you need them longer", "%s: %s ends with the session, and is no known secret (%d of such)", a.Name, m.Apps.Dirs.Contract(a.Unknown[0]), n)
		}
		if n := len(a.Suspects); n > 0 {
			found.add(Exposed, "see what they are; remove them, or keep them where nobody else reads", "%s: %s looks like a secret, and stays on disk (%d of such)", a.Name, m.Apps.Dirs.Contract(a.Suspects[0]), n)
		}
	}
}

func settings(m *Machine, found *findings) {
	for _, u := range m.Apps.Underminings() {
		found.add(Weak, u.Remedy, "%s: %s", u.App, u.Text)
	}
}

func locks(m *Machine, found *findings) {
	for _, l := range m.Apps.StaleLocks() {
		whose := "it does not say whose it is, and it is old"
		if l.PID != 0 {
			whose = fmt.Sprintf("process %d is dead", l.PID)
		}
		found.add(Broken, "rm "+apps.ShellWord(l.Path), "%s keeps its app waiting: %s", m.Apps.Dirs.Contract(l.Path), whose)
	}
}

// copies are what apps leave elsewhere: in logs, or on the way out.
func copies(m *Machine, found *findings) {
	left := m.Apps.LeftCopies(m.Root)
	for i, c := range left {
		if i > 0 && left[i-1].Copy == c.Copy {
			continue // one of a kind will do
		}
		found.add(Exposed, "remove such files, and "+c.Remedy, "%s has left copies on disk, such as %s: %s", c.App, m.Apps.Dirs.Contract(c.Path), c.Why)
	}
}
