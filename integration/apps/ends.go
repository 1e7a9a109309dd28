package apps

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"tokenfs/crypt"
)

// A redirected directory has more in it than secrets. What is kept on disk is
// reached by a link for each name; a program that writes a new file and renames
// it, as sed -i does, replaces that link. And an app makes files of its own.
// Neither is known to be secret, and both end with the session.

// replaced are the names that are kept on disk, and are files on the mount now.
func (e *Engine) replaced(l *link) (names []string) {
	for _, name := range l.Kept {
		if st, err := os.Lstat(filepath.Join(e.target(l), name)); err == nil && st.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	return names
}

// unknown are the names on the mount of which nobody knows what they are.
func (e *Engine) unknown(p *Place, l *link) (names []string) {
	entries, _ := os.ReadDir(e.target(l))
	for _, entry := range entries {
		name := entry.Name()
		if !p.moves(name) && !p.isLock(name) && !p.isFlock(name) && !slices.Contains(l.Kept, name) && !l.leadsOut(e.target(l), name) {
			names = append(names, name)
		}
	}
	return names
}

// putBack takes replaced files back to disk, and puts the links in their places.
func (e *Engine) putBack(l *link) error {
	for _, name := range e.replaced(l) {
		on, to := filepath.Join(e.target(l), name), filepath.Join(l.kept(), name)
		if err := e.copyTree(on, unfinished(to)); err != nil {
			return err
		}
		if err := os.Rename(unfinished(to), to); err != nil {
			return err
		}
		if err := os.Symlink(to, unfinished(on)); err != nil {
			return err
		}
		if err := os.Rename(unfinished(on), on); err != nil {
			return err
		}
		e.Result("put back to disk: %s, which would have ended with the session", e.Dirs.Contract(filepath.Join(l.Dir, name)))
	}
	return nil
}

// Files that stay on disk and look like secrets are an app's plug-ins', as a rule.
const (
	suspectSize  = 64 << 10
	suspectDepth = 3
)

var jsonWebToken = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`)

// suspects are those in a directory, besides what moves and what the table knows
// to be none: extensions come with keys for their tests.
func (p *Place) suspects(dir string) (found []string) {
	if p.File != "" || p.unknown {
		return nil
	}
	crypt.WithBuffer(suspectSize, func(buf []byte) error {
		found = p.suspectsBy(buf, dir)
		return nil
	})
	return found
}

// suspectsBy reads all files into one buffer: there may be thousands.
func (p *Place) suspectsBy(buf []byte, dir string) (found []string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, path)
		if err != nil || relErr != nil || rel == "." {
			return nil
		}
		first, _, _ := strings.Cut(rel, "/")
		if d.IsDir() && (p.moves(first) || slices.Contains(p.Keep, rel+"/") || strings.Count(rel, "/") >= suspectDepth) {
			return fs.SkipDir
		}
		if st, err := d.Info(); err != nil || !d.Type().IsRegular() || st.Size() > suspectSize || p.moves(first) {
			return nil
		}
		if !ours(path) {
			return nil
		}
		text, err := readInto(buf, path)
		if err == nil && shapeOf(text) != "" || bytes.Contains(text, []byte("eyJ")) && jsonWebToken.Match(text) {
			found = append(found, path)
		}
		return nil
	})
	return found
}
