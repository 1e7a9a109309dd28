package apps

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A StaleLock keeps an app waiting for somebody who is not there any more.
type StaleLock struct {
	Path string
	PID  int // 0: it does not say whose it is, but it is old
}

// lockAge is when a lock that names no owner is taken for a stale one. Nobody
// holds those for longer than it takes to write a file.
const lockAge = time.Minute

// StaleLocks looks at every place that is known, on disk and on the mount.
func (e *Engine) StaleLocks() (stale []StaleLock) {
	seen := make(map[string]bool)
	for _, a := range Table {
		for i := range a.Places {
			p := &a.Places[i]
			dir := e.Dirs.Expand(p.Dir)
			for _, l := range p.locksIn(dir) {
				st, err := os.Stat(l.path)
				old := err == nil && time.Since(st.ModTime()) > lockAge
				nobodys := l.alive && l.pid == 0 && p.isLock(filepath.Base(l.path)) && old
				if (!l.alive || nobodys) && !seen[l.path] {
					seen[l.path] = true
					stale = append(stale, StaleLock{l.path, l.pid})
				}
			}
		}
	}
	return stale
}

// A LeftCopy is a file of this user in which an app left what it should not.
type LeftCopy struct {
	App  string
	Path string
	Copy
}

// LeftCopies looks for them below root.
func (e *Engine) LeftCopies(root string) (found []LeftCopy) {
	for _, a := range Table {
		for _, c := range a.Copies {
			pattern := e.Dirs.Expand(c.Pattern)
			if pattern == c.Pattern {
				pattern = filepath.Join(root, pattern)
			}
			names, _ := filepath.Glob(pattern)
			for _, name := range names {
				var st unix.Stat_t
				if unix.Lstat(name, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Size > lookLimit {
					continue
				}
				withContents(name, func(text []byte) {
					if bytes.Contains(text, []byte(c.Mark)) {
						found = append(found, LeftCopy{a.Name, name, c})
					}
				})
			}
		}
	}
	return found
}

// An Undermining is a setting that goes against an app's redirection.
type Undermining struct {
	App    string
	Text   string
	Remedy string
}

// Underminings looks at the settings and variables of the linked apps.
func (e *Engine) Underminings() (found []Undermining) {
	s, err := loadState(List(e.Dirs), e.Dirs.Home)
	if err != nil {
		return nil
	}
	for _, l := range s.Links {
		if l.File != "" && e.Getenv(l.Variable) == "" {
			name := l.Apps[0]
			found = append(found, Undermining{name, l.Variable + " is not set here, and nothing else redirects it: what runs here writes to " + e.Dirs.Contract(filepath.Join(l.Dir, l.File)),
				`eval "$(tokenfs env ` + name + `)" in the file that your shell reads first`})
		}
	}
	names, err := e.Linked()
	if err != nil {
		return nil
	}
	for _, name := range names {
		a, err := Find(name)
		if err != nil {
			continue
		}
		for i := range a.Places {
			p := &a.Places[i]
			value := e.variableOf(p)
			if value == "" || e.onMount(value) {
				continue
			}
			found = append(found, Undermining{name, p.Variable + "=" + value + " sends it away from the filesystem", "unset " + p.Variable + ", and take it out of the file that sets it"})
		}
		for _, s := range a.Settings {
			value, from := e.effective(s)
			if value == "" || sameValue(value, s.Value) {
				continue
			}
			remedy := s.Command
			if from == s.Variable {
				remedy = "unset " + s.Variable
			}
			found = append(found, Undermining{name, from + " is " + value + ": " + s.Why, remedy})
		}
	}
	return found
}

// effective is what a setting is, and what says so.
func (e *Engine) effective(s Setting) (value, from string) {
	if value := e.Getenv(s.Variable); value != "" {
		return value, s.Variable
	}
	if s.File != "" {
		if value := iniValue(e.Dirs.Expand(s.File), s.Section, s.Key); value != "" {
			return value, s.Key + " in " + e.Dirs.Contract(e.Dirs.Expand(s.File))
		}
	}
	return s.Default, s.Key + " by default"
}

func sameValue(a, b string) bool {
	canonical := map[string]string{"no": "false", "off": "false", "0": "false", "yes": "true", "on": "true", "1": "true"}
	word := func(s string) string {
		s = strings.ToLower(s)
		if c, ok := canonical[s]; ok {
			return c
		}
		return s
	}
	return word(a) == word(b)
}

// iniValue finds a key in a file of the kind that git, az and gcloud share.
func iniValue(name, section, key string) (value string) {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	in := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = strings.EqualFold(strings.Trim(line, "[] \t"), section)
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if in && ok && strings.EqualFold(strings.TrimSpace(k), key) {
			value = strings.Trim(strings.TrimSpace(v), `"`) // the last one counts
		}
	}
	return value
}
