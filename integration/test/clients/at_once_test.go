package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const processes = 8

// An outcome is what came of eight processes at once.
type outcome struct {
	said         string
	lost, failed bool
}

// runAtOnce has eight processes of a client change what is cached at once.
// None may fail, and nothing that one of them saved may be lost. Where a client
// does not see to that by itself, the same has to happen to it on tmpfs.
func (c client) runAtOnce(t *testing.T) {
	here := c.round(t, false)
	t.Logf("on tokenfs: %s", here.said)
	for range 5 {
		if !here.lost && !here.failed {
			return
		}
		there := c.round(t, true)
		t.Logf("on tmpfs: %s", there.said)
		here.lost, here.failed = here.lost && !there.lost, here.failed && !there.failed
	}
	if here.lost || here.failed {
		t.Error("what went wrong on tokenfs went well on tmpfs, 5 times")
	}
}

func (c client) round(t *testing.T, tmpfs bool) (o outcome) {
	t.Helper()
	s := newSession(t)
	s.idp.Grace = time.Minute
	if tmpfs {
		c.onTmpfs(s)
	} else {
		c.link(s)
	}
	c.version(s)
	c.prepare(s)
	if c.together {
		c.loginForNow(s)
	}
	var chains [][]*exec.Cmd
	for i := range processes {
		chains = append(chains, c.atOnce(s, i))
	}
	var all sync.WaitGroup
	errs := make([]error, processes)
	for i, chain := range chains {
		all.Go(func() {
			for _, cmd := range chain {
				if _, err := s.try(cmd); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	all.Wait()
	said, complete := c.kept(s)
	o = outcome{said: said, lost: !complete}
	n := 0
	for _, err := range errs {
		if err != nil {
			if n++; n == 1 {
				o.said += ", and one process failed: " + err.Error()
			}
		}
	}
	if n == processes {
		t.Errorf("not one of them did what it should: %s", o.said)
	}
	if o.failed = n > 0; n > 1 {
		o.said += fmt.Sprintf("\nand %d others", n-1)
	}
	if !tmpfs {
		if found := s.leaked(); len(found) > 0 {
			t.Errorf("found outside the filesystem, %d times: %s", len(found), strings.Join(found[:min(len(found), 10)], "\n"))
		}
	}
	return o
}

// onTmpfs puts the client's directories on a tmpfs, to compare with.
func (c client) onTmpfs(s *session) {
	s.t.Helper()
	dir := filepath.Join(s.Top, "tmpfs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0700,uid=%d,gid=%d", s.UID, s.UID)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, home := range c.homes {
		to := filepath.Join(dir, target(home))
		s.Shell("mkdir -p " + to + " " + filepath.Dir(filepath.Join(s.home, home)) + "; ln -s " + to + " " + filepath.Join(s.home, home))
	}
	for name, file := range c.env {
		to := filepath.Join(dir, file)
		s.Shell("mkdir -p " + filepath.Dir(to))
		s.env = append(s.env, name+"="+to)
	}
}
