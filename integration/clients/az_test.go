package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"tokenfs/integration/entra"
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
	client{
		name:    "Azure CLI, device code",
		app:     "azure-cli",
		homes:   []string{".azure"},
		version: azVersion,
		login:   func(s *session) { s.must("az", "login", "--use-device-code", "--output", "none") },
		use:     azUse,
		renews:  "refresh_token",
		logout:  func(s *session) { s.must("az", "logout") },
	}.run(t)
}

func TestAzureCLIServicePrincipal(t *testing.T) {
	n := 0
	client{
		name:    "Azure CLI, service principal",
		app:     "azure-cli",
		homes:   []string{".azure"},
		version: azVersion,
		login: func(s *session) {
			n++
			id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
			s.must("az", "login", "--service-principal", "--username", id, "--password", s.idp.Plant("client", id, ""),
				"--tenant", entra.Tenant, "--output", "none")
		},
		use:    azUse,
		renews: "client_credentials",
		logout: func(s *session) { s.must("az", "account", "clear") },
	}.run(t)
}
