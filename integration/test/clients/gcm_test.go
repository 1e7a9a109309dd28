package clients

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var emulation = sync.OnceValues(func() (string, error) {
	out := filepath.Join(filepath.Dir(tokenfs), "gcm")
	msg, err := exec.Command("go", "build", "-o", out, "./testdata/gcm").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build the emulation: %w: %s", err, msg)
	}
	return out, err
})

// dotnet is what keeps its tokens by MSAL.NET, emulated, with GCM's store or
// without.
func dotnet(name, app, cache, store string, homes ...string) client {
	command := func(s *session, verb string, args ...string) *exec.Cmd {
		s.t.Helper()
		program, err := emulation()
		if err != nil {
			s.t.Fatal(err)
		}
		in := "-"
		if store != "" {
			in = filepath.Join(s.home, store)
		}
		cmd := s.client(program, append([]string{verb, filepath.Join(s.home, cache), in}, args...)...)
		return cmd
	}
	must := func(s *session, verb string) string {
		s.t.Helper()
		out, err := s.try(command(s, verb))
		if err != nil {
			s.t.Fatal(err, "\n", s.trail())
		}
		return out
	}
	return client{
		name:    name,
		app:     app,
		homes:   homes,
		version: func(*session) string { return "emulation of its system calls, not the program" },
		login:   func(s *session) { must(s, "login") },
		use:     func(s *session) error { _, err := s.try(command(s, "use")); return err },
		renews:  "refresh_token",
		logout:  func(s *session) { must(s, "logout") },
		atOnce: func(s *session, i int) []*exec.Cmd {
			return []*exec.Cmd{command(s, "login", strconv.Itoa(accountsEach)), command(s, "count")}
		},
		kept: func(s *session) (string, bool) {
			n, want := strings.TrimSpace(must(s, "count")), strconv.Itoa(processes*accountsEach)
			return fmt.Sprintf("%s of %s accounts", n, want), n == want
		},
	}
}

func TestGitCredentialManagerEmulation(t *testing.T) {
	dotnet("Git Credential Manager", "git-credential-manager", ".local/.IdentityService/msal.cache", ".gcm/store",
		".local/.IdentityService", ".gcm").run(t)
}

func TestAzurePowerShellEmulation(t *testing.T) {
	dotnet("Azure PowerShell", "azure-powershell", ".local/share/.IdentityService/msal.cache", "",
		".local/share/.IdentityService", ".Azure").run(t)
}
