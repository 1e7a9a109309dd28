package clients

import (
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A client is a program that signs in, and how that is done with it. Each of
// its functions fails the test if the program does not do what it should.
type client struct {
	name    string
	app     string            // as tokenfs link calls it
	homes   []string          // directories below the home directory that go onto the filesystem
	env     map[string]string // files on the filesystem, by the variable that names them
	version func(*session) string

	prepares func(*session)       // before the first login, and again after a wipe
	login    func(*session)       // signs in as somebody new
	use      func(*session) error // does something as who signed in, in a process of its own
	asks     bool                 // for a new token at every use, by the one in the cache
	renews   string               // the grant by which use gets new tokens when the old ones are too old
	over     time.Duration        // how long a token lives that is too old; a minute where not said
	logout   func(*session)

	atOnce func(*session, int) []*exec.Cmd // what one of several processes does, one command after the other
	kept   func(*session) (string, bool)   // whether all of that is there
}

// run has a client do everything once.
func (c client) run(t *testing.T) {
	t.Run("unlinked, in the clear", c.inTheClear)
	t.Run("linked", c.onceEach)
	if c.atOnce != nil {
		t.Run("eight at once", c.runAtOnce)
	}
}

func (c client) onceEach(t *testing.T) {

	s := newSession(t)
	c.link(s)
	c.prepare(s)
	t.Logf("%s %s", c.name, c.version(s))

	c.login(s)
	if len(s.held(s.idp.Secrets())) == 0 {
		t.Fatalf("after a login none of the tokens is on the filesystem\n%s\n%s", s.trail(), s.Shell("ls -laR "+s.Mountpoint()+" "+s.home))
	}
	asked := s.grants("")
	c.mustUse(s)
	if now := s.grants(""); now != asked && !c.asks {
		t.Errorf("a second process asked for %d tokens, instead of using those in the cache\n%s", now-asked, s.trail())
	}

	c.logout(s)
	if err := c.use(s); err == nil {
		t.Error("after signing out, the client can still be used")
	}
	c.nothingHeld(s, "after signing out")

	if c.renews != "" {
		s.idp.Lifetime(cmp.Or(c.over, time.Minute)) // MSAL takes five for over
		c.login(s)
		s.idp.Lifetime(time.Hour)
		renewed := s.grants(c.renews)
		c.mustUse(s)
		if s.grants(c.renews) == renewed {
			t.Errorf("no token was renewed\n%s", s.trail())
		}
		asked = s.grants("")
		c.mustUse(s)
		if now := s.grants(""); now != asked && !c.asks {
			t.Errorf("what was renewed was asked for again %d times\n%s", now-asked, s.trail())
		}
	} else {
		c.login(s)
	}

	s.Must("wipe")
	if err := c.use(s); err == nil {
		t.Error("after a wipe, the client can still be used")
	}
	if left := s.held(s.idp.Secrets()); len(left) > 0 {
		t.Errorf("after a wipe there are still %q", left)
	}
	c.rebuild(s)
	c.prepare(s)
	c.login(s)
	c.mustUse(s)
	c.logout(s)
	c.nothingHeld(s, "after signing out again")

	c.unlink(s)
	if found := s.leaked(); len(found) > 0 {
		t.Errorf("found outside the filesystem, %d times: %s", len(found), strings.Join(found[:min(len(found), 10)], "\n"))
	}
	turnedAway := map[string]bool{}
	for _, r := range s.idp.Requests() {
		if r.Method == "CONNECT" {
			turnedAway[r.Host] = true
		}
	}
	t.Logf("turned away: %q", slices.Sorted(maps.Keys(turnedAway)))
	s.Must("unmount")
	s.NothingLeft()
}

func (c client) mustUse(s *session) {
	s.t.Helper()
	if err := c.use(s); err != nil {
		s.t.Fatal(err, "\n", s.trail())
	}
}

func (c client) nothingHeld(s *session, when string) {
	s.t.Helper()
	if left := s.held(s.idp.Secrets()); len(left) > 0 {
		s.t.Errorf("%s, there are still %q", when, left[:min(len(left), 10)])
	}
}

// inTheClear shows that the search sees what this client writes where there
// is no tokenfs in its way.
func (c client) inTheClear(t *testing.T) {
	s := newSession(t)
	c.version(s)
	c.prepare(s)
	c.login(s)
	c.mustUse(s)
	found := s.leaked()
	if len(found) == 0 {
		t.Error("not linked, the client left nothing on the disk that the search can see: it would not see a leak, either")
	}
	t.Logf("tokens found in %d places on the disk", len(found))
}

func (c client) prepare(s *session) {
	if c.prepares != nil {
		c.prepares(s)
	}
}

// link puts the client's directories on the filesystem.
func (c client) link(s *session) {
	s.t.Helper()
	for _, dir := range c.homes {
		s.Shell("set -e; mkdir -p " + filepath.Dir(filepath.Join(s.home, dir)) + "; ln -s " + s.Path(target(dir)) + " " + filepath.Join(s.home, dir))
	}
	for name, file := range c.env {
		s.env = append(s.env, name+"="+s.Path(file))
	}
	c.rebuild(s)
}

// target is where on the filesystem a directory goes.
func target(dir string) string {
	return "apps/" + strings.ReplaceAll(strings.TrimLeft(dir, "."), "/", "-")
}

func (c client) rebuild(s *session) {
	s.t.Helper()
	for _, dir := range c.homes {
		s.Shell("mkdir -p -m 0700 " + s.Path(target(dir)))
	}
	for _, file := range c.env {
		s.Shell("mkdir -p -m 0700 " + filepath.Dir(s.Path(file)))
	}
}

func (c client) unlink(s *session) {
	for _, dir := range c.homes {
		if err := os.Remove(filepath.Join(s.home, dir)); err != nil {
			s.t.Error(err)
		}
	}
}
