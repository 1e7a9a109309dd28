package apps

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// What an entry of the table must have, for those who add one.
func TestTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/apps.md")
	if err != nil {
		t.Fatal(err)
	}
	apps, dirs, mounted := map[string]bool{}, map[string]string{}, map[string]string{}
	for _, a := range Table {
		switch {
		case a.Name == "" || a.Title == "" || a.Since == "" || len(a.Sources) == 0 || len(a.Places) == 0:
			t.Errorf("%s: name, title, versions, sources or places are missing", a.Name)
		case apps[a.Name]:
			t.Errorf("%s is there twice", a.Name)
		case strings.ContainsAny(a.Name, "/ '\""):
			t.Errorf("%s cannot be typed", a.Name)
		case !strings.Contains(string(page), "| `"+a.Name+"`"):
			t.Errorf("%s is not in the table of docs/apps.md", a.Name)
		}
		apps[a.Name] = true
		for _, p := range a.Places {
			key := p.Dir + "/" + p.File
			if name, ok := dirs[key]; ok && name != p.Name {
				t.Errorf("%s is %s and %s on the mount", key, name, p.Name)
			}
			if key2, ok := mounted[p.Name]; ok && key2 != key {
				t.Errorf("%s on the mount is %s and %s", p.Name, key, key2)
			}
			dirs[key], mounted[p.Name] = p.Name, key
			if !strings.HasPrefix(p.Dir, "~") && !strings.HasPrefix(p.Dir, "$") {
				t.Errorf("%s: %s is nobody's", a.Name, p.Dir)
			}
			if p.File != "" && p.Variable == "" {
				t.Errorf("%s: nothing redirects %s", a.Name, p.File)
			}
			for _, keep := range p.Keep {
				if p.moves(strings.TrimSuffix(keep, "/")) {
					t.Errorf("%s: %s is to be kept on disk, and moved", a.Name, keep)
				}
			}
			for _, s := range p.Secrets {
				if _, err := path.Match(s.Pattern, ""); err != nil || s.What == "" {
					t.Errorf("%s: pattern %q, %q: %v", a.Name, s.Pattern, s.What, err)
				}
				if s.Class == Renewable && a.Login == "" {
					t.Errorf("%s: nothing brings back %s", a.Name, s.Pattern)
				}
				if s.Class == Mixed && len(p.Marks) == 0 {
					t.Errorf("%s: nothing tells whether %s has secrets in it", a.Name, s.Pattern)
				}
			}
			for _, pattern := range slices.Concat(p.Locks, p.Flocks) {
				if _, err := path.Match(pattern, ""); err != nil {
					t.Errorf("%s: %q: %v", a.Name, pattern, err)
				}
			}
		}
		for _, s := range a.Settings {
			if s.Variable == "" || s.Value == "" || s.Why == "" || s.Default != "" && s.Command == "" {
				t.Errorf("%s: %+v", a.Name, s)
			}
		}
		for _, c := range a.Copies {
			if c.Mark == "" || c.Why == "" || c.Remedy == "" {
				t.Errorf("%s: %+v", a.Name, c)
			}
		}
	}
}

func TestSecretsByName(t *testing.T) {
	for _, c := range []struct {
		app, name string
		moves     bool
		class     Class
	}{
		{"azure-cli", "msal_token_cache.json", true, Renewable},
		{"azure-cli", "service_principal_entries.json", true, Irreplaceable},
		{"azure-cli", "msal_token_cache.json.lockfile", false, Renewable},
		{"azure-cli", "config", false, 0},
		{"azd", "auth/cred-1.json", true, Irreplaceable},
		{"azd", "auth/msal/cache.json", true, Renewable},
		{"azd", "vaults/x.json", true, Irreplaceable},
		{"gcloud", "legacy_credentials/u@example.com/adc.json", true, Renewable},
		{"gcloud", "legacy_credentials/r@p.iam.gserviceaccount.com/adc.json", true, Irreplaceable},
		{"gcloud", "credentials.db-journal", true, Renewable},
		{"kubectl", "config", true, Mixed},
		{"aws", "abc.json", true, Renewable},
	} {
		a, err := Find(c.app)
		if err != nil {
			t.Fatal(err)
		}
		p := a.Places[0]
		first, _, _ := strings.Cut(c.name, "/")
		if got := p.moves(first); got != c.moves {
			t.Errorf("%s: %s moves: %v", c.app, c.name, got)
		}
		if s, _ := p.secret(c.name); c.moves && s.Class != c.class {
			t.Errorf("%s: %s is %v", c.app, c.name, s.Class)
		}
	}
}
