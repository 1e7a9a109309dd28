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
	app     string            // as tokenfs link calls it; where it has no name, the first of homes
	loses   bool              // link wants to be told that a logout may cost what is in there
	costly  bool              // and that, once it has signed in
	homes   []string          // its directories below the home directory
	env     map[string]string // its files, by the variable that names them
	version func(*session) string

	prepares func(*session)       // before the first login, and again after a wipe
	login    func(*session)       // signs in as somebody new
	use      func(*session) error // does something as who signed in, in a process of its own
	asks     bool                 // for a new token at every use, by the one in the cache
	renews   string               // the grant by which use gets new tokens when the old ones are too old
	over     time.Duration        // how long a token lives that is too old; a minute where not said, less is waited for
	eager    bool                 // who is not signed in signs in there and then, so that use is no success
	logout   func(*session)       // nil where the client cannot
	leaves   string               // the secret that it leaves then, being nobody's
	seals    bool                 // what it writes, itself, so that there are no tokens to be found

	together bool // several processes have the same tokens, and all have to renew them

	atOnce func(*session, int) []*exec.Cmd // what one of several processes does, one command after the other
	kept   func(*session) (string, bool)   // whether all of that is there
}

// run has a client do everything once.
func (c client) run(t *testing.T) {
	t.Run("unlinked, in the clear", c.inTheClear)
	t.Run("linked", c.onceEach)
	t.Run("linked when signed in", c.moved)
	if c.atOnce != nil {
		t.Run("eight at once", c.runAtOnce)
	}
}

func (c client) onceEach(t *testing.T) {
	s := newSession(t)
	c.link(s)
	t.Logf("%s %s", c.name, c.version(s))
	c.prepare(s)

	c.login(s)
	if !c.holds(s) {
		t.Fatalf("after a login none of the tokens is on the filesystem\n%s\n%s", s.trail(), s.Shell("ls -laR "+s.Mountpoint()+" "+s.home))
	}
	asked := s.grants("")
	c.mustUse(s)
	if now := s.grants(""); now != asked && !c.asks {
		t.Errorf("a second process asked for %d tokens, instead of using those in the cache\n%s", now-asked, s.trail())
	}

	c.signOut(s)
	if c.renews != "" {
		c.loginForNow(s)
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
	if left := s.held(s.idp.Secrets()); len(left) > 0 {
		t.Errorf("after a wipe there are still %q", left)
	}
	if err := c.use(s); err == nil {
		t.Error("after a wipe, the client can still be used")
	}
	if c.eager {
		s.Must("wipe")
	}
	c.prepare(s)
	c.login(s)
	c.mustUse(s)
	c.signOut(s)
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

// loginForNow signs in for no longer than that.
func (c client) loginForNow(s *session) {
	s.t.Helper()
	over := cmp.Or(c.over, time.Minute) // MSAL takes five for over
	s.idp.Lifetime(over)
	c.login(s)
	s.idp.Lifetime(time.Hour)
	if over < time.Minute {
		time.Sleep(over)
	}
}

// signOut has the client do so; if it cannot, a wipe does.
func (c client) signOut(s *session) {
	s.t.Helper()
	end := c.logout
	if end == nil {
		s.t.Log("the client has no way to sign out: tokenfs wipe")
		end = func(s *session) { s.Must("wipe") }
	}
	end(s)
	left := slices.DeleteFunc(s.held(s.idp.Secrets()), func(found string) bool { return c.leaves != "" && strings.Contains(found, c.leaves) })
	if len(left) > 0 {
		s.t.Errorf("after signing out, there are still %q", left[:min(len(left), 10)])
	}
	if err := c.use(s); err == nil {
		s.t.Error("after signing out, the client can still be used")
	}
	if c.eager {
		end(s)
	}
}

// holds says whether the filesystem has what the client saved.
func (c client) holds(s *session) bool {
	s.t.Helper()
	if c.seals {
		return s.Shell("find "+s.Mountpoint()+" -type f -size +1000c") != ""
	}
	return len(s.held(s.idp.Secrets())) > 0
}

// moved links a client that has signed in already, and takes it off the
// filesystem with its tokens. It asks for no token meanwhile.
func (c client) moved(t *testing.T) {
	s := newSession(t)
	c.loses = c.loses || c.costly
	c.version(s)
	c.prepare(s)
	c.login(s)
	c.mustUse(s)
	asked := s.grants("")
	if len(s.inHome()) == 0 && !c.seals {
		t.Fatal("none of the tokens is in the home directory before")
	}
	c.link(s)
	if left := s.inHome(); len(left) > 0 {
		t.Errorf("linked, and still in the home directory: %q", left)
	}
	if !c.holds(s) {
		t.Error("the tokens were not moved onto the filesystem")
	}
	c.version(s)
	c.mustUse(s)
	if left := s.inHome(); len(left) > 0 {
		t.Errorf("used, and in the home directory: %q", left)
	}
	c.unlink(s, "--keep-tokens")
	c.version(s)
	c.mustUse(s)
	if now := s.grants(""); now != asked && !c.asks {
		t.Errorf("it asked for %d tokens\n%s", now-asked, s.trail())
	}
	if left := s.held(s.idp.Secrets()); len(left) > 0 {
		t.Errorf("unlinked, and still on the filesystem: %q", left)
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
	if c.seals {
		t.Logf("NOT SHOWN: the client seals what it writes; the search found tokens in %d places", len(found))
		return
	}
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

// named is what tokenfs link is told.
func (c client) named(s *session) string {
	if c.app == "" {
		return filepath.Join(s.home, c.homes[0])
	}
	return c.app
}

// link puts the client on the filesystem, as a user does.
func (c client) link(s *session) {
	s.t.Helper()
	args := []string{"link", c.named(s)}
	if c.app == "" { // by path: it must be there, and a login brings it back
		s.Shell("mkdir -p -m 700 '" + c.named(s) + "'")
		args = append(args, "--renewable")
	}
	if c.loses {
		if said, code := s.Run(args...); code == 0 {
			s.t.Errorf("linked without a word about what may be lost: %s", said)
		}
		args = append(args, "--yes-lose")
	}
	s.Must(args...)
	for _, dir := range c.homes {
		if to, err := os.Readlink(filepath.Join(s.home, dir)); err != nil || !strings.HasPrefix(to, s.Mountpoint()+"/") {
			s.t.Errorf("%s does not lead to the filesystem: %q, %v", dir, to, err)
		}
	}
	if len(c.env) > 0 {
		set := s.Shell(`eval "$(` + s.Command + ` env --format sh ` + c.app + `)"; env`)
		for name := range c.env {
			i := strings.Index("\n"+set, "\n"+name+"=")
			if i < 0 {
				s.t.Fatalf("tokenfs env does not set %s", name)
			}
			value, _, _ := strings.Cut(set[i:], "\n")
			s.env = append(s.env, value)
		}
	}
}

// unlink takes it off again.
func (c client) unlink(s *session, args ...string) {
	s.t.Helper()
	if c.loses {
		args = append(args, "--yes-lose")
	}
	s.Must(append([]string{"unlink", c.named(s)}, args...)...)
	for _, dir := range c.homes {
		dir = filepath.Join(s.home, dir)
		if st, err := os.Lstat(dir); err == nil && !st.IsDir() {
			s.t.Errorf("%s is still %v", dir, st.Mode())
		}
		if _, err := os.Lstat(dir + ".tokenfs"); err == nil {
			s.t.Errorf("%s.tokenfs is left behind", dir)
		}
	}
	s.env = nil
}

// target is where on the tmpfs to compare with a directory goes.
func target(dir string) string { return strings.ReplaceAll(strings.TrimLeft(dir, "."), "/", "-") }
