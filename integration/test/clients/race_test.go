package clients

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

var raceLoads = flag.Int("race.loads", 10_000, "loads that each library's saves meet")

// A racer saves and loads a cache by a library's own code, without a lock.
type racer struct {
	name  string
	needs string
	run   func(s *session, args ...string) *exec.Cmd
}

var racers = []racer{
	{"MSAL for Python", "", func(s *session, args ...string) *exec.Cmd {
		return s.client(python, append([]string{filepath.Join(filepath.Dir(tokenfs), "race.py")}, args...)...)
	}},
	{".NET emulation", "", func(s *session, args ...string) *exec.Cmd {
		program, err := emulation()
		if err != nil {
			s.t.Fatal(err)
		}
		return s.client(program, append([]string{"race"}, args...)...)
	}},
	{"MSAL for Node", nodeApp.needs, func(s *session, args ...string) *exec.Cmd {
		return s.client(node(), append([]string{filepath.Join(filepath.Dir(tokenfs), "race.mjs")}, args...)...)
	}},
	{"MSAL for Go", goApp.needs, func(s *session, args ...string) *exec.Cmd {
		return s.client(filepath.Join(programs, "apps"), append([]string{"race"}, args...)...)
	}},
}

// met is what loads found while others saved.
type met struct{ loads, empty, halves, versions int }

// race has a library's loads, and MSAL's for Python, meet that library's saves.
func (r racer) race(s *session, cache string, loads int) (all met) {
	s.t.Helper()
	if r.needs != "" {
		needed(s, r.needs)
	}
	if exec.Command(python, "-c", "import msal_extensions").Run() != nil {
		s.t.Skip("NOT RUN: no python3-msal-extensions here: try: make test-apps")
	}
	s.env = append(s.env, "MODULES="+programs)
	if err := racers[1].put(s, cache); err != nil {
		s.t.Fatal(err)
	}
	saver := r.run(s, "save", cache)
	until, err := saver.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	saved := make(chan error)
	go func() { _, err := s.try(saver); saved <- err }()
	type result struct {
		met
		err error
	}
	results := make(chan result)
	loaders := []racer{r, racers[0]}
	for _, l := range loaders {
		go func() {
			found := result{met: met{loads: loads / len(loaders)}}
			out, err := s.try(l.run(s, "load", cache, strconv.Itoa(found.loads)))
			if err == nil {
				_, err = fmt.Sscan(out, &found.empty, &found.halves, &found.versions)
			}
			if found.err = err; found.empty+found.halves > 0 {
				s.t.Log(out)
			}
			results <- found
		}()
	}
	for range loaders {
		one := <-results
		if one.err != nil {
			s.t.Error(one.err)
		}
		all = met{all.loads + one.loads, all.empty + one.empty, all.halves + one.halves, all.versions + one.versions}
	}
	until.Close()
	if err := <-saved; err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%d loads found %d versions, and nothing %d times, and a half %d times", all.loads, all.versions, all.empty, all.halves)
	return all
}

// put makes the cache, which loaders want to be there.
func (r racer) put(s *session, cache string) error {
	cmd := r.run(s, "save", cache) // its standard input has ended
	_, err := s.try(cmd)
	return err
}

// MSAL for Python, and so az, reads its cache without the lock that it writes it
// under, and others read what .NET is writing. They find the version before, or the
// one after.
func TestLoadsMeetSaves(t *testing.T) {
	for _, r := range racers {
		t.Run(r.name, func(t *testing.T) {
			s := newSession(t)
			all := r.race(s, filepath.Join(s.Mountpoint(), "cache"), *raceLoads)
			if all.empty > 0 || all.halves > 0 {
				t.Errorf("%d loads found nothing, %d a half", all.empty, all.halves)
			}
			if all.versions < 10 {
				t.Errorf("only %d versions were found: this shows nothing", all.versions)
			}
		})
	}
}

// The control: where saves are in place, as on tmpfs, the same loads find both.
func TestLoadsMeetSavesInPlace(t *testing.T) {
	for _, r := range racers {
		t.Run(r.name, func(t *testing.T) {
			s := newSession(t)
			s.Must("unmount")
			s.Env = append(s.Env, "TOKENFS_WHOLE_SAVES=off")
			s.Must("mount")
			all := r.race(s, filepath.Join(s.Mountpoint(), "cache"), min(*raceLoads, 10_000))
			if all.empty+all.halves == 0 {
				t.Error("no load found nothing, or a half: the race does not show what it is there for")
			}
		})
	}
}
