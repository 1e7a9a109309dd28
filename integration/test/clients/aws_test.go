package clients

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"tokenfs/integration/test/entra"
)

// awsConfig has a profile that signs in once, and one for each of several
// processes that do so at once.
func awsConfig(s *session) {
	s.t.Helper()
	var b strings.Builder
	profile := func(section, session string) {
		fmt.Fprintf(&b, "[%s]\nsso_session = %s\nsso_account_id = 123456789012\nsso_role_name = tests\nregion = %s\n", section, session, entra.AWSRegion)
		fmt.Fprintf(&b, "[sso-session %s]\nsso_start_url = https://%s.awsapps.com/start\nsso_region = %s\nsso_registration_scopes = sso:account:access\n",
			session, session, entra.AWSRegion)
	}
	profile("default", "tests")
	for i := range processes {
		profile(fmt.Sprint("profile user", i), fmt.Sprint("tests", i))
	}
	s.Shell("mkdir -p ~/.aws; cat >~/.aws/config <<'END'\n" + b.String() + "END")
}

func TestAWS(t *testing.T) {
	login := func(s *session, args ...string) *exec.Cmd {
		return s.client("aws", append([]string{"sso", "login", "--no-browser"}, args...)...)
	}
	// The first use asks for the keys of a role, and has them cached.
	use := func(s *session, args ...string) *exec.Cmd {
		return s.client("aws", append([]string{"sts", "get-caller-identity", "--query", "Arn", "--output", "text"}, args...)...)
	}
	signIn := func(s *session) {
		s.t.Helper()
		for _, cmd := range []*exec.Cmd{login(s), use(s)} {
			if _, err := s.try(cmd); err != nil {
				s.t.Fatal(err, "\n", s.trail())
			}
		}
	}
	client{
		name:     "AWS CLI, single sign-on",
		app:      "aws",
		homes:    []string{".aws/sso/cache", ".aws/cli/cache"},
		version:  found("aws", "--version"),
		prepares: awsConfig,
		login:    signIn,
		use: func(s *session) error {
			out, err := s.try(use(s))
			if err == nil && !strings.Contains(out, "assumed-role/tests/user") {
				err = errors.New("aws sts says: " + s.masked(out))
			}
			return err
		},
		renews: "refresh_token",
		logout: func(s *session) { s.must("aws", "sso", "logout") },
		leaves: "client of aws", // as which it registered, whoever signed in

		together: true,
		atOnce: func(s *session, i int) []*exec.Cmd {
			profile := fmt.Sprint("--profile=user", i)
			return []*exec.Cmd{login(s, profile), use(s, profile), use(s)}
		},
		kept: func(s *session) (string, bool) {
			kept := 0
			for i := range processes {
				asked := s.grants("")
				if _, err := s.try(use(s, fmt.Sprint("--profile=user", i))); err == nil && s.grants("") == asked {
					kept++
				}
			}
			return fmt.Sprintf("%d of %d logins", kept, processes), kept == processes
		},
	}.run(t)
}

func TestAWSAccessKeys(t *testing.T) {
	configure := func(s *session, profile string) *exec.Cmd {
		id, key := s.idp.AccessKey(profile)
		cmd := s.client("aws", "configure", "--profile", profile)
		cmd.Stdin = strings.NewReader(id + "\n" + key + "\n" + entra.AWSRegion + "\n\n")
		return cmd
	}
	use := func(s *session, profile string) error {
		return s.says("user/"+profile, "aws", "sts", "get-caller-identity", "--output", "text", "--profile", profile)
	}
	client{
		name:    "AWS CLI, access keys",
		app:     "aws-credentials",
		loses:   true,
		env:     map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "aws-credentials/credentials"},
		version: found("aws", "--version"),
		login: func(s *session) {
			if _, err := s.try(configure(s, "default")); err != nil {
				s.t.Fatal(err)
			}
		},
		use: func(s *session) error { return use(s, "default") },
		atOnce: func(s *session, i int) []*exec.Cmd {
			return []*exec.Cmd{configure(s, fmt.Sprint("user", i))}
		},
		kept: func(s *session) (string, bool) {
			kept := 0
			for i := range processes {
				if use(s, fmt.Sprint("user", i)) == nil {
					kept++
				}
			}
			return fmt.Sprintf("%d of %d keys", kept, processes), kept == processes
		},
	}.run(t)
}
