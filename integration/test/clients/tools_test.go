package clients

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tokenfs/integration/test/entra"
)

// found skips the test where a program is missing, and says its version.
func found(program string, args ...string) func(*session) string {
	return func(s *session) string {
		s.t.Helper()
		if _, err := s.try(s.client("sh", "-c", "command -v "+program)); err != nil {
			s.t.Skipf("NOT RUN: no %s here that everybody may run: try: make test-apps", program)
		}
		out := s.must(program, args...)
		first, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
		return first
	}
}

// says runs a command and checks what it says.
func (s *session) says(want string, name string, args ...string) error {
	s.t.Helper()
	out, err := s.try(s.client(name, args...))
	if err == nil && !strings.Contains(out, want) {
		err = errors.New(name + " says: " + s.masked(out))
	}
	return err
}

func TestGitHubCLI(t *testing.T) {
	use := func(s *session) error { return s.says("user", "gh", "api", "user", "--jq", ".login") }
	client{
		name:    "GitHub CLI",
		app:     "gh",
		homes:   []string{".config/gh"},
		version: found("gh", "--version"),
		login: func(s *session) {
			s.must("gh", "auth", "login", "--web", "--hostname", entra.GitHub, "--git-protocol", "https")
		},
		use:    use,
		logout: func(s *session) { s.must("gh", "auth", "logout", "--hostname", entra.GitHub) },
		atOnce: func(s *session, i int) (cmds []*exec.Cmd) {
			for range 3 {
				login := s.client("gh", "auth", "login", "--with-token", "--hostname", entra.GitHub)
				login.Stdin = strings.NewReader(s.idp.Plant("access", "user", "gho_"))
				cmds = append(cmds, login)
			}
			return cmds
		},
		kept: func(s *session) (string, bool) {
			if err := use(s); err != nil {
				return err.Error(), false
			}
			return "the last login works", true
		},
	}.run(t)
}

func TestNPM(t *testing.T) {
	client{
		name:    "npm",
		app:     "npm",
		loses:   true,
		env:     map[string]string{"NPM_CONFIG_USERCONFIG": "npm/.npmrc"},
		version: found("npm", "--version"),
		login:   func(s *session) { s.must("npm", "login", "--auth-type=web") },
		use:     func(s *session) error { return s.says("user", "npm", "whoami") },
		logout:  func(s *session) { s.must("npm", "logout") },
		atOnce: func(s *session, i int) (cmds []*exec.Cmd) {
			for n := range 3 {
				// Without logs, as in those npm 9 writes down what it was told to set.
				cmds = append(cmds, s.client("npm", "--logs-max=0", "config", "set", fmt.Sprintf("//registry%d-%d.example/:_authToken", i, n), s.idp.Plant("access", "npm", "npm_")))
			}
			return cmds
		},
		kept: func(s *session) (string, bool) {
			n := strings.Count(s.must("npm", "config", "ls"), ".example/:_authToken")
			return fmt.Sprintf("%d of %d tokens", n, 3*processes), n == 3*processes
		},
	}.run(t)
}

func TestDocker(t *testing.T) {
	n := 0
	login := func(s *session, registry, user string) *exec.Cmd {
		cmd := s.client("docker", "login", registry, "--username", user, "--password-stdin")
		cmd.Stdin = strings.NewReader(s.idp.Plant("password", user, ""))
		return cmd
	}
	client{
		name:    "Docker CLI",
		app:     "docker",
		loses:   true,
		homes:   []string{".docker"},
		version: found("docker", "--version"),
		login: func(s *session) {
			n++
			if _, err := s.try(login(s, entra.Registry, fmt.Sprint("user", n))); err != nil {
				s.t.Fatal(err, s.trail())
			}
		},
		use: func(s *session) error {
			return s.says("schemaVersion", "docker", "manifest", "inspect", entra.Registry+"/app:1")
		},
		asks:   true,
		renews: "refresh_token",
		logout: func(s *session) { s.must("docker", "logout", entra.Registry) },
		atOnce: func(s *session, i int) []*exec.Cmd {
			return []*exec.Cmd{login(s, fmt.Sprintf("%d.%s", i, entra.Registry), fmt.Sprint("user", i))}
		},
		kept: func(s *session) (string, bool) {
			n := 0
			for i := range processes {
				if s.says("schemaVersion", "docker", "manifest", "inspect", fmt.Sprintf("%d.%s/app:1", i, entra.Registry)) == nil {
					n++
				}
			}
			return fmt.Sprintf("%d of %d logins", n, processes), n == processes
		},
	}.run(t)
}

// kubeconfig begins one, with the stand-in's cluster in it.
func kubeconfig(s *session) {
	s.t.Helper()
	s.must("kubectl", "config", "set-cluster", "tests", "--server=https://"+entra.Cluster, "--certificate-authority="+s.idp.CA())
}

func kubectl(name string, login func(*session, string)) client {
	n := 0
	return client{
		name:     name,
		app:      "kubectl",
		loses:    true,
		homes:    []string{".kube"},
		version:  found("kubectl", "version", "--client"),
		prepares: kubeconfig,
		login: func(s *session) {
			n++
			user := fmt.Sprint("user", n)
			login(s, user)
			s.must("kubectl", "config", "set-context", "tests", "--cluster=tests", "--user="+user)
			s.must("kubectl", "config", "use-context", "tests")
		},
		use:    func(s *session) error { return s.says("tests", "kubectl", "get", "--raw", "/api/v1/namespaces") },
		logout: func(s *session) { s.must("kubectl", "config", "delete-user", fmt.Sprint("user", n)) },
	}
}

func TestKubectl(t *testing.T) {
	token := func(s *session, user string) *exec.Cmd {
		return s.client("kubectl", "config", "set-credentials", user, "--token="+s.idp.Plant("id", user, ""))
	}
	c := kubectl("kubectl, token", func(s *session, user string) {
		if _, err := s.try(token(s, user)); err != nil {
			s.t.Fatal(err)
		}
	})
	c.atOnce = func(s *session, i int) (cmds []*exec.Cmd) {
		for n := range 3 {
			// kubectl does not wait for its lock, so somebody has to.
			cmds = append(cmds, s.client("sh", append([]string{"-c", `for i in $(seq 200); do
				said=$("$@" 2>&1) && exit
				case $said in *"config.lock: file exists"*) ;; *) break ;; esac
			done; echo "$said"; exit 1`, "sh"}, token(s, fmt.Sprintf("user%d-%d", i, n)).Args...)...))
		}
		return cmds
	}
	c.kept = func(s *session) (string, bool) {
		n := len(strings.Fields(s.must("kubectl", "config", "get-users"))) - 1
		return fmt.Sprintf("%d of %d users", n, 3*processes), n == 3*processes
	}
	c.run(t)
}

func TestKubectlOIDC(t *testing.T) {
	c := kubectl("kubectl, OIDC", func(s *session, user string) {
		id, refresh := s.idp.SignedIn("kubectl", "openid")
		s.must("kubectl", "config", "set-credentials", user, "--auth-provider=oidc",
			"--auth-provider-arg=idp-issuer-url="+entra.Issuer, "--auth-provider-arg=client-id=kubectl",
			"--auth-provider-arg=id-token="+id, "--auth-provider-arg=refresh-token="+refresh)
	})
	c.renews = "refresh_token"
	c.over = -time.Hour
	c.run(t)
}
