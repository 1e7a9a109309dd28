package torture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Programs that nobody here wrote.

// A shell is an SQLite command line that stays.
type shell struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func openShell(path string) (*shell, error) {
	cmd := exec.Command("sqlite3", "-batch", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &shell{cmd, in, bufio.NewScanner(out)}
	_, err = s.ask(".timeout 60000")
	return s, err
}

const shellEnd = "that is all"

// ask returns what the shell says to a query, errors included.
func (s *shell) ask(query string) (string, error) {
	if _, err := fmt.Fprintf(s.in, "%s\nSELECT '%s';\n", query, shellEnd); err != nil {
		return "", fmt.Errorf("sqlite3: %w", err)
	}
	var lines []string
	for s.out.Scan() {
		if s.out.Text() == shellEnd {
			return strings.Join(lines, "\n"), nil
		}
		lines = append(lines, s.out.Text())
	}
	return "", fmt.Errorf("sqlite3 ended, saying %q", lines)
}

func (s *shell) close() error {
	s.in.Close()
	return s.cmd.Wait()
}

// sqlite inserts in transactions; each stores how many rows there were.
func (c *client) sqlite() error {
	for c.running() {
		s, err := openShell(c.path("wal.db"))
		if err != nil {
			return err
		}
		for i := 0; i < 100 && c.running(); i++ {
			id := c.fresh()
			err := c.do("sqlite", "next", id, 0, func() (int64, error) {
				said, err := s.ask(fmt.Sprintf("BEGIN IMMEDIATE; INSERT INTO t SELECT %d, count(*), hex(randomblob(300)) FROM t; COMMIT; SELECT n FROM t WHERE id = %[1]d;", id))
				if err != nil {
					return 0, err
				}
				var n int64
				if _, err := fmt.Sscanf(said, "%d", &n); err != nil || said != fmt.Sprint(n) {
					return 0, fmt.Errorf("sqlite3 says %q", said)
				}
				return n, nil
			})
			if err != nil {
				return err
			}
			c.pace()
		}
		if err := s.close(); err != nil {
			return fmt.Errorf("sqlite3: %w", err)
		}
	}
	return nil
}

func (c *client) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return said, err
}

// git commits, checks out and packs.
func (c *client) git() error {
	if err := c.own("git"); err != nil {
		return err
	}
	if _, err := c.run("git", "init", "-q", "-b", "main"); err != nil {
		return err
	}
	commits := 0
	for ; commits == 0 || c.running(); c.pace() {
		for range 3 {
			name := c.path(fmt.Sprintf("dir%d/file%d", c.rng.IntN(4), c.rng.IntN(20)))
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(name, pattern(c.fresh(), 500+c.rng.IntN(9000)), 0o600); err != nil {
				return err
			}
		}
		if _, err := c.run("git", "add", "-A"); err != nil {
			return err
		}
		if _, err := c.run("git", "commit", "-q", "-m", fmt.Sprint("commit ", commits)); err != nil {
			return err
		}
		commits++
		if commits%20 == 0 {
			if _, err := c.run("git", "gc", "-q"); err != nil {
				return err
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := c.run("git", "fsck", "--strict", "--full"); err != nil {
		return err
	}
	if n, err := c.run("git", "rev-list", "--count", "HEAD"); err != nil || n != fmt.Sprint(commits) {
		return fmt.Errorf("git has %s commits of %d: %v", n, commits, err)
	}
	if dirty, err := c.run("git", "status", "--porcelain"); err != nil || dirty != "" {
		return fmt.Errorf("git says %q: %v", dirty, err)
	}
	return nil
}

// msal adds tokens to caches that two processes share, as an app's processes do.
func (c *client) msal() error {
	const each = 8
	for ; c.running(); c.pace() {
		if err := os.MkdirAll(c.path("msal"), 0o700); err != nil {
			return err
		}
		cache := c.path(fmt.Sprint("msal/cache", c.fresh()))
		var running []*exec.Cmd
		var said [2]strings.Builder
		for i := range said {
			cmd := exec.Command(python, "../msal/update.py", cache, fmt.Sprint("process", i), fmt.Sprint(each))
			cmd.Stdin = strings.NewReader("go\n")
			cmd.Stdout, cmd.Stderr = &said[i], &said[i]
			if err := cmd.Start(); err != nil {
				return err
			}
			running = append(running, cmd)
		}
		gaveUp := false
		for i, cmd := range running {
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("msal: %w: %s", err, said[i].String())
			}
			// MSAL waits 5 s for its lock, says so, and goes on without it.
			gaveUp = gaveUp || said[i].String() != "ready\nfinished\n"
		}
		b, err := os.ReadFile(cache)
		if err != nil {
			return err
		}
		var content struct{ AccessToken map[string]any }
		if err := json.Unmarshal(b, &content); err != nil && !gaveUp {
			return fmt.Errorf("msal: the cache is not whole: %w", err)
		}
		if n := len(content.AccessToken); n != 2*each && !gaveUp {
			return fmt.Errorf("msal: %d tokens are in the cache, not %d", n, 2*each)
		}
		kind := "kept"
		if gaveUp {
			kind = "gave-up"
		}
		if err := c.record(Op{"msal", kind, 0, 0, 0, c.number, 0, 0}); err != nil {
			return err
		}
		if err := os.Remove(cache); err != nil {
			return err
		}
	}
	return nil
}

// python is Debian's, whatever else is first in PATH.
const python = "/usr/bin/python3"
