package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
		remedy := a.Run
		if remedy == "" { // it is linked, and they lie where the rest was put
			remedy = "remove what you do not need, then tokenfs link " + a.Name
		}
		found.add(Exposed, remedy, "secrets of %s are on disk in plain sight: %s", a.Name, what)
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
		found.add(Broken, "rm "+l.Path, "%s keeps its app waiting: %s", m.Apps.Dirs.Contract(l.Path), whose)
	}
}

// telemetry looks for what the Azure CLI moves out of its directory to send it,
// and leaves behind when it is killed at that.
func telemetry(m *Machine, found *findings) {
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		left, _ := filepath.Glob(m.path(dir + "/tmp*/cache"))
		for _, name := range left {
			st, err := os.Lstat(name)
			if err != nil || !st.Mode().IsRegular() || int(st.Sys().(*syscall.Stat_t).Uid) != m.UID {
				continue
			}
			text := make([]byte, 4096)
			f, err := os.Open(name)
			if err != nil {
				continue
			}
			n, _ := f.Read(text)
			f.Close()
			if strings.Contains(string(text[:n]), "azurecli") || strings.Contains(string(text[:n]), "Context.Default.AzureCLI") {
				found.add(Weak, "rm "+strings.TrimPrefix(name, strings.TrimSuffix(m.Root, "/"))+", and az config set core.collect_telemetry=false",
					"the Azure CLI left its telemetry on disk: %s", strings.TrimPrefix(name, strings.TrimSuffix(m.Root, "/")))
			}
		}
	}
}
