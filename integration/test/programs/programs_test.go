// Package programs runs programs that nobody here wrote on the filesystem, for
// what they ask of one: SQLite its locks and its shared memory, git its hard
// links, renames and packs.
package programs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/mounted"
)

func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := run(dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sharedMappings reports whether the kernel maps files of a mount with direct
// I/O shared, as it does from Linux 6.6.
func sharedMappings(t *testing.T, dir string) bool {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return false
	}
	unix.Munmap(b)
	return true
}

func TestSQLite(t *testing.T) {
	m := mounted.New(t, mounted.Build(t))
	for _, mode := range []string{"delete", "truncate", "persist", "wal"} {
		t.Run(mode, func(t *testing.T) {
			db := mode + ".db"
			got, err := run(m.Dir, "sqlite3", db, "PRAGMA journal_mode="+mode+";")
			if mode == "wal" && !sharedMappings(t, m.Dir) {
				// SQLite then refuses WAL, at the first use if not before. Should it
				// not, it has to work.
				_, use := run(m.Dir, "sqlite3", db, "CREATE TABLE probe(x);")
				if err = errors.Join(err, use); err != nil {
					t.Skipf("NOT RUN: this kernel cannot map these files shared, and SQLite refuses WAL: %v", err)
				}
			}
			if err != nil || got != mode {
				t.Fatalf("journal_mode=%s: %q, %v", mode, got, err)
			}
			must(t, m.Dir, "sqlite3", db, "CREATE TABLE tokens(writer, n, value, UNIQUE(writer, n));")

			const writers, each = 4, 20
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for n := range each {
						// The value depends on what is there, so that an update
						// made on an old picture would show.
						q := fmt.Sprintf(`BEGIN IMMEDIATE;
							INSERT INTO tokens SELECT %d, %d, count(*) FROM tokens; COMMIT;`, w, n)
						if _, err := run(m.Dir, "sqlite3", "-cmd", ".timeout 60000", db, q); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			q := "PRAGMA integrity_check; SELECT count(*), count(DISTINCT value), min(value), max(value) FROM tokens;"
			if got, want := must(t, m.Dir, "sqlite3", db, q), fmt.Sprintf("ok\n%d|%[1]d|0|%d", writers*each, writers*each-1); got != want {
				t.Errorf("the database says %q, not %q", got, want)
			}
			// A larger transaction than SQLite's own cache, rolled back, and one kept.
			big := `PRAGMA cache_size=10; BEGIN;
				WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<3000)
				INSERT INTO tokens SELECT 'big', i, hex(randomblob(200)) FROM c; `
			must(t, m.Dir, "sqlite3", db, big+"ROLLBACK;")
			must(t, m.Dir, "sqlite3", db, big+"COMMIT;")
			must(t, m.Dir, "sqlite3", db, "DELETE FROM tokens WHERE writer='big' AND n%2; VACUUM;")
			q = "PRAGMA integrity_check; SELECT count(*) FROM tokens;"
			if got, want := must(t, m.Dir, "sqlite3", db, q), fmt.Sprintf("ok\n%d", writers*each+1500); got != want {
				t.Errorf("the database says %q, not %q", got, want)
			}
		})
	}
}

func TestGit(t *testing.T) {
	m := mounted.New(t, mounted.Build(t))
	repo := filepath.Join(m.Dir, "repo")
	must(t, m.Dir, "git", "init", "-q", "-b", "main", repo)
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(repo, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(msg string) {
		t.Helper()
		must(t, repo, "git", "add", "-A")
		must(t, repo, "git", "commit", "-q", "-m", msg)
	}
	for i := range 10 {
		for j := range 20 {
			write(fmt.Sprintf("dir%d/file%d", j%4, j), strings.Repeat(fmt.Sprintf("%d of %d\n", i, j), 500))
		}
		commit(fmt.Sprint("commit ", i))
	}
	must(t, repo, "git", "checkout", "-q", "-b", "side", "HEAD~5")
	write("side", "side\n")
	if err := os.Symlink("side", filepath.Join(repo, "link")); err != nil {
		t.Fatal(err)
	}
	write("run.sh", "#!/bin/sh\necho ran\n")
	if err := os.Chmod(filepath.Join(repo, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	commit("side")
	must(t, repo, "git", "checkout", "-q", "main")
	must(t, repo, "git", "merge", "-q", "--no-edit", "side")
	if out := must(t, repo, "./run.sh"); out != "ran" {
		t.Errorf("a script in the checkout says %q", out)
	}
	tree := must(t, repo, "git", "rev-parse", "HEAD^{tree}")

	must(t, repo, "git", "gc", "-q", "--aggressive", "--prune=now")
	must(t, repo, "git", "fsck", "--strict", "--full")
	must(t, m.Dir, "git", "clone", "-q", repo, "clone") // hard links
	must(t, m.Dir, "git", "clone", "-q", "--no-local", repo, "copy")
	for _, dir := range []string{"repo", "clone", "copy"} {
		dir = filepath.Join(m.Dir, dir)
		must(t, dir, "git", "fsck", "--strict", "--full")
		if out := must(t, dir, "git", "status", "--porcelain"); out != "" {
			t.Errorf("%s is not clean: %s", dir, out)
		}
		must(t, dir, "git", "rm", "-rq", "--cached", ".")
		must(t, dir, "git", "add", "-A")
		if got := must(t, dir, "git", "write-tree"); got != tree {
			t.Errorf("what is checked out in %s is tree %s, and was committed as %s", dir, got, tree)
		}
	}
	st, err := os.Stat(filepath.Join(m.Dir, "clone/.git/objects/pack"))
	if err != nil || !st.IsDir() {
		t.Fatal(err)
	}
	packs, _ := filepath.Glob(filepath.Join(m.Dir, "clone/.git/objects/pack/*.pack"))
	var pack unix.Stat_t
	if len(packs) != 1 || unix.Stat(packs[0], &pack) != nil || pack.Nlink != 2 {
		t.Errorf("the clone's packs %v are not hard links: nlink %d", packs, pack.Nlink)
	}
}
