package clients

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// identity is an app on Azure Identity, which chooses the place of its cache by
// itself and has no way to sign out.
func identity(a app, home string, seals bool) client {
	on := func(s *session, verb, record string) *exec.Cmd {
		return a.command(s, verb, filepath.Join(s.home, record))
	}
	return client{
		name:    a.name,
		app:     "azure-identity",
		homes:   []string{home},
		version: a.version,
		login: func(s *session) {
			s.t.Helper()
			if _, err := s.try(on(s, "login", "record.json")); err != nil {
				s.t.Fatal(err, "\n", s.trail())
			}
		},
		use:    func(s *session) error { _, err := s.try(on(s, "use", "record.json")); return err },
		seals:  seals,
		renews: "refresh_token",
		atOnce: func(s *session, i int) []*exec.Cmd {
			record := string(rune('a'+i)) + ".json"
			return []*exec.Cmd{on(s, "login", record), on(s, "use", record)}
		},
		kept: func(s *session) (string, bool) {
			lost := []string{}
			for i := range processes {
				if _, err := s.try(on(s, "use", string(rune('a'+i))+".json")); err != nil {
					lost = append(lost, string(rune('a'+i)))
				}
			}
			return "logins lost: " + strings.Join(lost, ", "), len(lost) == 0
		},
	}
}

func TestAzureIdentityNode(t *testing.T) {
	identity(app{"Azure Identity for Node", nodeApp.needs, []string{"node", "identity.mjs"}, ""}, ".IdentityService", false).run(t)
}

func TestAzureIdentityGo(t *testing.T) {
	identity(app{"Azure Identity for Go", "apps", []string{"apps", "azidentity"}, ""}, ".cache/.IdentityService", true).run(t)
}
