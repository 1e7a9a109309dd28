package clients

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokenfs/integration/test/entra"
)

// built says the version of a program that was built from a Go module.
func built(program, module string) func(*session) string {
	return func(s *session) string {
		s.t.Helper()
		needed(s, program)
		out, err := exec.Command("go", "version", "-m", filepath.Join(programs, program)).Output()
		if err != nil {
			s.t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(out), "mod\t"+module+"\t")
		version, _, _ := strings.Cut(after, "\t")
		return strings.TrimSpace(strings.SplitN(version, "\n", 2)[0])
	}
}

// unasked runs a command that signs in by device code where it has to, which it
// should not.
func (s *session) unasked(cmd *exec.Cmd) error {
	s.t.Helper()
	before := s.grants("device_code")
	_, err := s.try(cmd)
	if err == nil && s.grants("device_code") != before {
		err = errors.New("signed in anew")
	}
	return err
}

func TestKubelogin(t *testing.T) {
	get := func(s *session) *exec.Cmd {
		return s.client(filepath.Join(programs, "kubelogin"), "get-token", "--login", "devicecode", "--server-id", "00000000-0000-4000-8000-0000000000f1",
			"--client-id", "00000000-0000-4000-8000-0000000000f2", "--tenant-id", entra.Tenant)
	}
	login := func(s *session) {
		s.t.Helper()
		if _, err := s.try(get(s)); err != nil {
			s.t.Fatal(err, "\n", s.trail())
		}
	}
	client{
		name:    "Azure/kubelogin",
		app:     "kubelogin",
		homes:   []string{".kube/cache", ".cache/.IdentityService", ".IdentityService"},
		version: built("kubelogin", "github.com/Azure/kubelogin"),
		login:   login,
		use:     func(s *session) error { return s.unasked(get(s)) },
		seals:   true,
		eager:   true,
		renews:  "refresh_token",

		together: true,
		atOnce: func(s *session, i int) []*exec.Cmd {
			return []*exec.Cmd{get(s), get(s), get(s)}
		},
		kept: func(s *session) (string, bool) {
			// Azure's cache for Go is read without its lock: who finds it empty signs in,
			// and one of those who did is remembered.
			asked, signedIn := s.grants(""), s.grants("device_code")
			first := s.unasked(get(s))
			again := s.unasked(get(s))
			return fmt.Sprintf("no error, %d sign-ins, %d renewals; then %v, and then %v", signedIn, asked-signedIn, first, again), again == nil
		},
	}.run(t)
}

// TestKubectlOIDCLogin has kubectl run int128's kubelogin for its tokens.
func TestKubectlOIDCLogin(t *testing.T) {
	get := func(s *session, user string) *exec.Cmd {
		return s.client("kubectl", "--user="+user, "get", "--raw", "/api/v1/namespaces")
	}
	login := func(s *session) {
		s.t.Helper()
		if _, err := s.try(get(s, "tests")); err != nil {
			s.t.Fatal(err, "\n", s.trail())
		}
	}
	kubelogin := filepath.Join(programs, "int128/kubelogin")
	client{
		name:  "int128/kubelogin",
		app:   "kubelogin",
		homes: []string{".kube/cache", ".cache/.IdentityService", ".IdentityService"},
		version: func(s *session) string {
			return found(kubelogin, "version")(s) + ", kubectl " + found("kubectl", "version", "--client")(s)
		},
		prepares: func(s *session) {
			kubeconfig(s)
			for i := range processes + 1 {
				user, client := fmt.Sprint("user", i), fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
				if i == processes {
					user = "tests"
				}
				s.must("kubectl", "config", "set-credentials", user, "--exec-api-version=client.authentication.k8s.io/v1beta1", "--exec-command="+kubelogin,
					"--exec-arg=get-token", "--exec-arg=--grant-type=device-code", "--exec-arg=--skip-open-browser",
					"--exec-arg=--oidc-issuer-url="+entra.Issuer, "--exec-arg=--oidc-client-id="+client)
			}
			s.must("kubectl", "config", "set-context", "tests", "--cluster=tests", "--user=tests")
			s.must("kubectl", "config", "use-context", "tests")
		},
		login:  login,
		use:    func(s *session) error { return s.unasked(get(s, "tests")) },
		eager:  true,
		renews: "refresh_token",
		over:   5 * time.Second, // it checks that what it gets is not over yet
		logout: func(s *session) {
			if _, err := s.try(s.client(kubelogin, "clean")); err != nil {
				s.t.Fatal(err)
			}
		},

		together: true,
		atOnce: func(s *session, i int) []*exec.Cmd {
			return []*exec.Cmd{get(s, fmt.Sprint("user", i)), get(s, "tests")}
		},
		kept: func(s *session) (string, bool) {
			signedIn, renewed := s.grants("device_code"), s.grants("refresh_token")
			kept := 0
			for i := range processes {
				asked := s.grants("")
				if _, err := s.try(get(s, fmt.Sprint("user", i))); err == nil && s.grants("") == asked {
					kept++
				}
			}
			return fmt.Sprintf("%d of %d logins, from %d sign-ins and %d renewals", kept, processes, signedIn, renewed),
				kept == processes && signedIn == processes+1 && renewed == 1
		},
	}.run(t)
}
