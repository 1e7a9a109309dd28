package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tokenfs/integration/test/entra"
)

func azVersion(s *session) string {
	s.t.Helper()
	if _, err := exec.LookPath("az"); err != nil {
		s.t.Skip("NOT RUN: no Azure CLI here: try: make test-apps")
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(s.must("az", "version", "--output", "json")), &v); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(v["azure-cli"])
}

// az lists resource groups, which takes a token for the Resource Manager.
func azUse(s *session) error {
	out, err := s.try(s.client("az", "group", "list", "--query", "[].name", "--output", "tsv"))
	if err == nil && strings.TrimSpace(out) != "tests" {
		err = errors.New("az group list: " + s.masked(out))
	}
	return err
}

func TestAzureCLIDeviceCode(t *testing.T) {
	login := func(s *session) { s.must("az", "login", "--use-device-code", "--output", "none") }
	token := func(s *session, i int) *exec.Cmd {
		return s.client("az", "account", "get-access-token", "--resource", fmt.Sprintf("https://resource%d.example", i), "--output", "none")
	}
	client{
		name:    "Azure CLI, device code",
		app:     "azure-cli",
		homes:   []string{".azure"},
		version: azVersion,
		login:   login,
		use:     azUse,
		renews:  "refresh_token",
		logout:  func(s *session) { s.must("az", "logout") },
		atOnce: func(s *session, i int) []*exec.Cmd {
			if i == 0 {
				login(s)
			}
			return []*exec.Cmd{token(s, i)} // az reads its cache without a lock
		},
		kept: func(s *session) (string, bool) {
			kept := 0
			for i := range processes {
				asked := s.grants("")
				if _, err := s.try(token(s, i)); err == nil && s.grants("") == asked {
					kept++
				}
			}
			return fmt.Sprintf("%d of %d tokens", kept, processes), kept == processes
		},
	}.run(t)
}

func TestAzureCLIServicePrincipal(t *testing.T) {
	n := 0
	login := func(s *session, n int) *exec.Cmd {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
		return s.client("az", "login", "--service-principal", "--username", id, "--password", s.idp.Plant("client", id, ""),
			"--tenant", entra.Tenant, "--output", "none")
	}
	client{
		name:    "Azure CLI, service principal",
		app:     "azure-cli",
		homes:   []string{".azure"},
		version: azVersion,
		login: func(s *session) {
			n++
			if _, err := s.try(login(s, n)); err != nil {
				s.t.Fatal(err, "\n", s.trail())
			}
		},
		costly: true,
		use:    azUse,
		renews: "client_credentials",
		logout: func(s *session) { s.must("az", "account", "clear") },
		atOnce: func(s *session, i int) []*exec.Cmd { return []*exec.Cmd{login(s, 100+i)} },
		kept: func(s *session) (string, bool) {
			// az's own profile has no lock; the files with secrets have.
			held := map[string]bool{}
			for _, found := range s.heldIn(filepath.Join(s.home, ".azure")+"/", s.idp.Secrets()) {
				held[found] = true
			}
			secrets, tokens := 0, 0
			for i := range processes {
				id := fmt.Sprintf("00000000-0000-4000-8000-%012d", 100+i)
				if held["./service_principal_entries.json: client of "+id+", raw"] {
					secrets++
				}
				if held["./msal_token_cache.json: access of "+id+", raw"] {
					tokens++
				}
			}
			return fmt.Sprintf("%d secrets and %d tokens of %d logins", secrets, tokens, processes), secrets == processes && tokens == processes
		},
	}.run(t)
}
