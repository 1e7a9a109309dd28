package clients

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokenfs/integration/test/entra"
	"tokenfs/integration/test/installed"
	"tokenfs/integration/test/scan"
)

// A session is that of a user who has tokenfs mounted, a home directory on a
// disk that can be searched, and the stand-in for everybody else.
type session struct {
	*installed.User
	t    *testing.T
	idp  *entra.Server
	disk *disk
	home string
	env  []string // of this session's client, in addition
}

func newSession(t *testing.T) *session {
	t.Helper()
	s := &session{t: t, User: installed.New(t, tokenfs, installed.Packaged), disk: newDisk(t)}
	var err error
	if s.idp, err = entra.New(s.Top); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.idp.Close)
	s.home = filepath.Join(s.disk.dir, "home")
	tmp := filepath.Join(s.disk.dir, "tmp")
	if err := errors.Join(os.Chmod(s.disk.dir, 0o755),
		os.Mkdir(s.home, 0o700), os.Chown(s.home, s.UID, s.UID),
		os.Mkdir(tmp, 0o700), os.Chown(tmp, s.UID, s.UID)); err != nil {
		t.Fatal(err)
	}
	for i, v := range s.Env {
		switch {
		case strings.HasPrefix(v, "HOME="):
			s.Env[i] = "HOME=" + s.home
		case strings.HasPrefix(v, "PATH="):
			s.Env[i] = "PATH=" + path
		}
	}
	s.Env = append(append(s.Env, "TMPDIR="+tmp, "LANG=C.UTF-8"), s.idp.Env()...)
	s.Must("mount")
	return s
}

// client makes a command of the client's.
func (s *session) client(name string, args ...string) *exec.Cmd {
	cmd := s.Program(name, args...)
	cmd.Env = append(slices.Clone(s.Env), s.env...)
	cmd.Dir = s.home
	return cmd
}

// try runs a client's command to its end, which must come.
func (s *session) try(cmd *exec.Cmd) (string, error) {
	s.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr.Setpgid = true // with all its children
	if err := cmd.Start(); err != nil {
		return "", err
	}
	stuck := time.AfterFunc(3*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stuck.Stop()
	err := cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%q: %w\n%s", cmd.Args[:min(len(cmd.Args), 4)], err, s.masked(out.String()))
	}
	return out.String(), err
}

// must runs a client's command, which must succeed.
func (s *session) must(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(s.client(name, args...))
	if err != nil {
		s.t.Fatal(err, "\n", s.trail())
	}
	return out
}

// masked is text without the secrets that it may hold.
func (s *session) masked(text string) string {
	for _, secret := range s.idp.Secrets() {
		text = strings.ReplaceAll(text, secret.Value, "("+secret.Kind+")")
	}
	return text
}

// trail is what the stand-in was asked last.
func (s *session) trail() string {
	all := s.idp.Requests()
	var b strings.Builder
	for _, r := range all[max(0, len(all)-12):] {
		fmt.Fprintf(&b, "  %d %s %s%s %s %s %s\n", r.Status, r.Method, r.Host, r.Path, r.Grant, r.User, r.Refused)
	}
	return s.masked(b.String())
}

// grants is how often a token was asked for, in that way or in any.
func (s *session) grants(how string) (n int) {
	for _, r := range s.idp.Requests() {
		if r.Grant != "" && (how == "" || r.Grant == how) && r.Status < 400 {
			n++
		}
	}
	return n
}

// held are the secrets among those that are on the filesystem now, as its
// user sees it.
func (s *session) held(secrets []entra.Secret) (found []string) {
	s.t.Helper()
	return s.heldIn(s.Mountpoint(), secrets)
}

func (s *session) heldIn(dir string, secrets []entra.Secret) (found []string) {
	s.t.Helper()
	set := setOf(s.t, secrets)
	cmd := s.Program("tar", "-C", dir, "-cf", "-", ".")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	b, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("read the filesystem: %v: %s", err, &errs)
	}
	archive := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			s.t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			s.t.Fatal(err)
		}
		set.Search(content, 0, func(f scan.Found) { found = append(found, h.Name+": "+f.Label) })
	}
}

// inHome are the secrets that are in files below the home directory now.
func (s *session) inHome() (found []string) {
	s.t.Helper()
	set := setOf(s.t, s.idp.Secrets())
	filepath.WalkDir(s.home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		in, _, err := searchFile(path, set)
		if err != nil {
			s.t.Errorf("not searched: %v", err)
		}
		found = append(found, in...)
		return nil
	})
	return found
}

// leaked are the secrets that lie where they may not: on the user's disk,
// deleted or not, in what tokenfs itself keeps, or in a file that belongs to
// the user in one of the machine's directories for temporary files.
func (s *session) leaked() (found []string) {
	s.t.Helper()
	set := setOf(s.t, s.idp.Secrets())
	s.disk.flush(s.t)
	found, n, err := searchFile(s.disk.image, set)
	if err != nil {
		s.t.Fatal(err)
	}
	if n == 0 {
		s.t.Fatal("nothing of the disk was searched")
	}
	for _, top := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run"} {
		filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil // gone, or another's filesystem
			case path == s.Mountpoint() || path == s.disk.dir || path == s.idp.CA():
				return fs.SkipDir
			case !e.Type().IsRegular():
				return nil
			}
			if st, err := e.Info(); err != nil || st.Sys().(*syscall.Stat_t).Uid != uint32(s.UID) {
				return nil
			}
			in, _, err := searchFile(path, set)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				s.t.Errorf("not searched: %v", err)
			}
			found = append(found, in...)
			return nil
		})
	}
	return found
}
