// The demo shows what tokenfs does, on this machine and with a real app, in
// less than two minutes. It is run by make demo, in the root of the repository.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"tokenfs/integration/test/msal"
)

const command = "bin/tokenfs"

func main() {
	fmt.Println("tokenfs: a guided tour")
	d := &demo{}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ended := make(chan error, 1)
	go func() { ended <- d.run() }()
	var err error
	select {
	case err = <-ended:
	case sig := <-stop:
		err = fmt.Errorf("ended by a signal: %v", sig)
	}
	if err = errors.Join(err, d.cleanUp()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Println("\nThat was all of it; nothing was left behind.")
}

// A demo is one run, and what is to be cleaned up after it.
type demo struct {
	mu      sync.Mutex // around the rest while a signal may end the run
	dir     string
	mounted bool
	apps    []*msal.App
}

func (d *demo) run() error {
	for _, s := range []func() error{d.packages, d.build, d.mount} {
		if err := s(); err != nil {
			return err
		}
	}
	return d.withApps()
}

func (d *demo) packages() error {
	step("Install what is missing")
	return run("integration/test/packages.sh", "fuse3", "python3-msal-extensions")
}

func (d *demo) build() error {
	step("Build")
	if err := run("make", "--no-print-directory", "build"); err != nil {
		return err
	}
	st, err := os.Stat(command)
	if err == nil {
		say("%s: one static file of %s", command, size(st.Size()))
	}
	return err
}

func (d *demo) mountpoint() string { return filepath.Join(d.dir, "tokenfs") }

func (d *demo) mount() error {
	step("Mount")
	dir, err := place()
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.dir = dir
	d.mu.Unlock()
	say("A directory of the demo's own, so that nothing of yours is touched:")
	say("$ export XDG_RUNTIME_DIR=%s", dir)
	// Settings of whoever runs the demo are not the demo's.
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "TOKENFS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("XDG_RUNTIME_DIR", dir)
	os.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	os.Setenv("TOKENFS_MOUNTPOINT", d.mountpoint())
	d.mu.Lock()
	d.mounted = true // perhaps, from here on
	d.mu.Unlock()
	return run(command, "mount")
}

func (d *demo) withApps() error {
	step("Two apps at once")
	cache := filepath.Join(d.mountpoint(), "app", "cache.json")
	say("Two processes of one app, on the MSAL Python that Debian ships, share a token")
	say("cache. Its identity provider is made up: nothing leaves this machine.")
	users := []string{"alice", "bob"}
	apps := make([]*msal.App, len(users))
	for i := range users {
		var err error
		if apps[i], err = d.start(cache); err != nil {
			return err
		}
		say("$ python3 integration/test/msal/app.py $XDG_RUNTIME_DIR/tokenfs/app/cache.json   # process %d", apps[i].PID())
	}
	if err := loginAtOnce(apps, users); err != nil {
		return err
	}
	var seen [][]string
	for _, app := range apps {
		lines, err := ask(app, "show")
		if err != nil {
			return err
		}
		seen = append(seen, lines)
	}
	if len(seen[0]) != 2 || !slices.Equal(seen[0], seen[1]) {
		return errors.New("the apps do not see the same two users")
	}
	say("Each has saved, and each has re-loaded what the other one saved.")
	if err := run("ls", "-ln", filepath.Dir(cache)); err != nil {
		return err
	}

	step("What tokenfs says of itself")
	if err := run(command, "status"); err != nil {
		return err
	}

	s, err := tokensOf(apps)
	if err != nil {
		return err
	}
	if err := d.look(s, apps[0].PID(), cache); err != nil {
		return err
	}

	step("Wipe")
	if err := run(command, "wipe"); err != nil {
		return err
	}
	say("An app that starts now sees an empty cache:")
	fresh, err := d.start(cache)
	if err != nil {
		return err
	}
	lines, err := ask(fresh, "show")
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		return errors.New("after a wipe an app still sees its users")
	}
	say("(The two that have been running keep what they had read into their own memory.)")
	say("And once more:")
	if err := s.daemon(d.mountpoint()); err != nil {
		return err
	}

	step("Unmount")
	d.quitApps()
	if err := run(command, "unmount"); err != nil {
		return err
	}
	d.mu.Lock()
	d.mounted = false
	d.mu.Unlock()
	return nil
}

// look searches where tokens may be, and where they may not.
func (d *demo) look(s *search, app int, cache string) error {
	step("Look for the tokens")
	say("%d tokens, %s; found means 16 bytes of one in a row.", s.tokens.Len(), size(int64(s.bytes)))
	if !s.process("the app", app) {
		return errors.New("the tokens were not found even in the app's own memory, where they are: the search is no good")
	}
	if err := s.daemon(d.mountpoint()); err != nil {
		return err
	}
	f, err := os.Open(cache)
	if err != nil {
		return err
	}
	defer f.Close()
	cached, err := pageCache(f)
	if err != nil {
		return err
	}
	if cached {
		return errFound
	}
	if os.Getuid() != 0 {
		say("A refusal is not an answer: what was refused may hold anything. But it is refused")
		say("to every program of yours. To see it searched, run the demo as root.")
	}
	return nil
}

func (d *demo) start(cache string) (*msal.App, error) {
	app, err := msal.Start(cache)
	if err == nil {
		d.mu.Lock()
		d.apps = append(d.apps, app)
		d.mu.Unlock()
	}
	return app, err
}

// ask shows a command to an app, and what the app says.
func ask(app *msal.App, command string) ([]string, error) {
	lines, err := app.Do(command)
	say("%d> %s", app.PID(), command)
	for _, line := range lines {
		say("  %s", line)
	}
	if len(lines) == 0 && err == nil {
		say("  (nobody is signed in)")
	}
	return lines, err
}

func loginAtOnce(apps []*msal.App, users []string) error {
	errs := make([]error, len(apps))
	var wg sync.WaitGroup
	for i, app := range apps {
		wg.Go(func() {
			var lines []string
			if lines, errs[i] = app.Do("login " + users[i]); errs[i] == nil && lines[0] != "signed in: "+users[i] {
				errs[i] = fmt.Errorf("login: %s", lines[0])
			}
		})
	}
	wg.Wait()
	for i, app := range apps {
		say("%d> login %s", app.PID(), users[i])
	}
	return errors.Join(errs...)
}

// tokensOf asks the apps, which alone know, for what is to be looked for.
func tokensOf(apps []*msal.App) (*search, error) {
	var tokens []string
	for _, app := range apps {
		lines, err := app.Do("secrets")
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, lines...)
	}
	return newSearch(tokens)
}

func (d *demo) quitApps() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, app := range d.apps {
		app.Quit()
	}
	d.apps = nil
}

// cleanUp leaves nothing behind, however the run ended.
func (d *demo) cleanUp() error {
	d.quitApps()
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.mounted {
		// A search that was cut short has left the daemon stopped.
		if pids, err := daemonPIDs(d.mountpoint() + ".sock"); err == nil {
			goOn(pids)
		}
		err = run(command, "unmount")
	}
	if d.dir != "" {
		// Not RemoveAll: beneath, something might still be mounted.
		entries, _ := os.ReadDir(d.dir)
		for _, e := range entries {
			err = errors.Join(err, os.Remove(filepath.Join(d.dir, e.Name())))
		}
		err = errors.Join(err, os.Remove(d.dir))
	}
	return err
}
