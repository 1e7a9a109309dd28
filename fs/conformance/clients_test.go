package conformance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The clients, as the system calls that they were seen to make. Each counts
// in a shared cache file under its own lock protocol; where the protocol
// excludes, no count may be lost, and nowhere may a call fail that cannot fail
// on tmpfs. Their pauses between attempts are shortened.
//
// On a server that finds files by path they die: on go-fuse's example/loopback
// over tmpfs, three runs, 3 to 7 of the 8 .NET processes and 3 to 5 of the 6 of
// Go ended with ENOENT from open(O_CREAT) of a lock file that another was
// unlinking, and 2 or 3 of the 4 of botocore with ENOENT from opening a name
// that was being renamed over.

// A document is what the cache holds: it shows when it is torn.
func document(n int) []byte {
	pad := strings.Repeat(string(rune('a'+n%26)), 200+n*37%9000)
	return fmt.Appendf(nil, `{"n":%d,"pad":"%s","end":%d}`, n, pad, n)
}

func parseDocument(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var d struct {
		N, End int
		Pad    string
	}
	if err := json.Unmarshal(b, &d); err != nil || !bytes.Equal(b, document(d.N)) {
		return 0, fmt.Errorf("torn document of %d bytes (%v)", len(b), err)
	}
	return d.N, nil
}

const (
	cacheName = "msal_token_cache.json"
	lockName  = cacheName + ".lockfile"
)

// each makes a role of one round of a client.
func each(round func(c client) error) func([]byte) error {
	return func(args []byte) error {
		var c client
		if err := json.Unmarshal(args, &c); err != nil {
			return err
		}
		waitForStart()
		for i := range c.Rounds {
			if err := round(c); err != nil {
				return fmt.Errorf("round %d: %w", i, err)
			}
		}
		return nil
	}
}

func init() {
	roles["msal-python-portalocker"] = each(portalocker)
	roles["msal-python"] = each(pythonLockFile)
	roles["msal-dotnet"] = each(dotnet)
	roles["msal-go"] = each(goExtension)
	roles["msal-node"] = each(node)
	roles["azd"] = each(azd)
	roles["kubectl"] = each(kubectl)
	roles["docker"] = each(docker)
	roles["botocore"] = each(botocore)
	roles["sqlite"] = each(sqlite)
}

// call names the failing call: that is the whole report of a client.
func call(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

func openCall(path string, flags int, mode uint32) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
	return fd, call(fmt.Sprintf("open %s %s", filepath.Base(path), openFlags(flags)), err)
}

func writeAll(fd int, b []byte) error {
	n, err := unix.Write(fd, b)
	if err == nil && n != len(b) {
		err = fmt.Errorf("short, %d of %d", n, len(b))
	}
	return call("write", err)
}

// rewrite is open, write, close; every MSAL does it in place.
func rewrite(path string, flags int, mode uint32, b []byte) error {
	fd, err := openCall(path, flags, mode)
	if err != nil {
		return err
	}
	return errors.Join(writeAll(fd, b), call("close", unix.Close(fd)))
}

// increment is one modification of the cache under somebody's lock.
func increment(path string, flags int) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	n, err := parseDocument(old)
	if err != nil {
		return err
	}
	read := clock()
	if err := rewrite(path, flags, 0o600, document(n+1)); err != nil {
		return err
	}
	fmt.Println(n+1, read, clock())
	return nil
}

// clock is the same one in all processes.
func clock() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// counted is what a client has said of one increment: that it counted to N, having
// read what was there before Read, and saved N before Saved.
type counted struct{ Client, N, Read, Saved int64 }

// twice lists the increments that counted to what another one had counted to, with
// those around them: whether each was over before the next one began says whether
// the lock was given twice, or a save was not read.
func twice(said [][]byte) string {
	var all []counted
	for i, lines := range said {
		for line := range strings.Lines(string(lines)) {
			c := counted{Client: int64(i)}
			if n, _ := fmt.Sscan(line, &c.N, &c.Read, &c.Saved); n == 3 {
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(all, func(a, b counted) int { return cmp.Compare(a.Read, b.Read) })
	var out strings.Builder
	for i, c := range all {
		if i > 0 && c.N <= all[i-1].N {
			for _, near := range all[max(0, i-3):min(len(all), i+3)] {
				fmt.Fprintf(&out, "\n\tclient %d read by %d and saved %d by %d", near.Client, near.Read, near.N, near.Saved)
			}
		}
	}
	return out.String()
}

// until repeats an attempt at a lock for as long as it says that it is taken.
func until(what string, try func() (taken bool, err error)) error {
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		if got, err := try(); got || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.New("no " + what + " in 60 s")
		}
	}
}

// portalocker: msal-extensions 1.0 with portalocker, as in Debian 12.
func portalocker(c client) error {
	lock, cache := filepath.Join(c.Dir, lockName), filepath.Join(c.Dir, cacheName)
	if err := unix.Mkdir(c.Dir, 0o777); err != unix.EEXIST {
		return call("mkdir", err)
	}
	err := until("lock file", func() (bool, error) {
		fd, err := openCall(lock, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
		if errors.Is(err, unix.EEXIST) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != unix.ENOTTY {
			return false, fmt.Errorf("ioctl TCGETS: %v, want ENOTTY", err)
		}
		return true, unix.Close(fd)
	})
	if err != nil {
		return err
	}
	fd, err := openCall(lock, unix.O_RDWR|unix.O_CREAT|unix.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return call("flock", err)
	}
	if err := unix.Ftruncate(fd, 0); err != nil {
		return call("ftruncate", err)
	}
	if err := writeAll(fd, fmt.Appendf(nil, "%d app.py", os.Getpid())); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(cache, &st); err != nil && err != unix.ENOENT {
		return call("stat", err)
	}
	return errors.Join(
		increment(cache, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC),
		call("flock", unix.Flock(fd, unix.LOCK_UN)),
		call("close", unix.Close(fd)),
		call("unlink", unix.Unlink(lock)),
	)
}

// pythonLockFile: msal-extensions 1.3 without portalocker.
func pythonLockFile(c client) error {
	lock, cache := filepath.Join(c.Dir, lockName), filepath.Join(c.Dir, cacheName)
	err := until("lock file", func() (bool, error) {
		err := rewrite(lock, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666, []byte("4711 app.py"))
		if errors.Is(err, unix.EEXIST) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(cache, &st); err != nil && err != unix.ENOENT {
		return call("stat", err)
	}
	return errors.Join(increment(cache, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC), call("unlink", unix.Unlink(lock)))
}

// dotnet: CrossPlatLock of MSAL.NET as the runtime carries it out: lock, see
// that the locked file is still the one of that name, unlink it while locked.
func dotnet(c client) error {
	lock, cache := filepath.Join(c.Dir, lockName), filepath.Join(c.Dir, cacheName)
	var fd int
	err := until("lock", func() (bool, error) {
		var err error
		if fd, err = openCall(lock, unix.O_RDWR|unix.O_CREAT, 0o666); err != nil {
			return false, err
		}
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			unix.Close(fd)
			if err == unix.EWOULDBLOCK {
				return false, nil
			}
			return false, call("flock", err)
		}
		var mine, named unix.Stat_t
		if err := unix.Fstat(fd, &mine); err != nil {
			return false, call("fstat", err)
		}
		err = unix.Stat(lock, &named)
		if err == unix.ENOENT || err == nil && (mine.Ino != named.Ino || mine.Dev != named.Dev) {
			unix.Close(fd)
			return false, nil
		}
		return err == nil, call("stat", err)
	})
	if err != nil {
		return err
	}
	if err := writeAll(fd, fmt.Appendf(nil, "%d dotnet", os.Getpid())); err != nil {
		return err
	}
	if err := dotnetCache(cache); err != nil {
		return err
	}
	return errors.Join(
		call("unlink", unix.Unlink(lock)),
		call("flock", unix.Flock(fd, unix.LOCK_UN)),
		call("close", unix.Close(fd)),
	)
}

// dotnetCache is File.ReadAllBytes and FileWithPermissions.
func dotnetCache(cache string) error {
	n := 0
	if fd, err := openCall(cache, unix.O_RDONLY, 0); err == nil {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return call("fstat", err)
		}
		if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil {
			return call("flock", err)
		}
		b := make([]byte, st.Size)
		if got, err := unix.Pread(fd, b, 0); err != nil || got != len(b) {
			return fmt.Errorf("pread: %d of %d: %v", got, len(b), err)
		}
		if n, err = parseDocument(b); err != nil {
			return err
		}
		unix.Flock(fd, unix.LOCK_UN)
		unix.Close(fd)
	} else if !errors.Is(err, unix.ENOENT) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(cache, &st); err != nil && err != unix.ENOENT {
		return call("lstat", err)
	}
	return rewrite(cache, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600, document(n+1))
}

// goExtension: extensions-for-go. Its lock file is unlinked after the release,
// so two processes may both think they hold it: counts do get lost, on tmpfs
// too. But an open that fails is passed on to the application.
func goExtension(c client) error {
	lock, cache := filepath.Join(c.Dir, lockName), filepath.Join(c.Dir, cacheName)
	var fd int
	err := until("lock", func() (bool, error) {
		var err error
		if fd, err = openCall(lock, unix.O_RDWR|unix.O_CREAT, 0o600); err != nil {
			return false, err
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK {
			unix.Close(fd)
			return false, nil
		}
		return err == nil, call("flock", err)
	})
	if err != nil {
		return err
	}
	now := unix.NsecToTimespec(time.Now().UnixNano())
	err = errors.Join(
		writeAll(fd, []byte(strconv.Itoa(os.Getpid()))),
		rewrite(cache, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600, document(c.N)),
		call("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, cache, []unix.Timespec{now, now}, 0)),
		call("flock", unix.Flock(fd, unix.LOCK_UN)),
		call("close", unix.Close(fd)),
	)
	if e := unix.Unlink(lock); e != nil && e != unix.ENOENT {
		err = errors.Join(err, call("unlink", e))
	}
	return err
}

// node: msal-node-extensions, an existence lock, unlinked while it is open.
func node(c client) error {
	lock, cache := filepath.Join(c.Dir, lockName), filepath.Join(c.Dir, cacheName)
	if err := rewrite(cache, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o600, nil); err != nil {
		return err
	}
	if err := unix.Chmod(cache, 0o600); err != nil {
		return call("chmod", err)
	}
	var fd int
	err := until("lock file", func() (bool, error) {
		var err error
		fd, err = openCall(lock, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_TRUNC, 0o666)
		if errors.Is(err, unix.EEXIST) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	err = errors.Join(
		writeAll(fd, []byte(strconv.Itoa(os.Getpid()))),
		call("chmod", unix.Chmod(cache, 0o600)),
		increment(cache, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC),
		call("chmod", unix.Chmod(cache, 0o600)),
		call("unlink", unix.Unlink(lock)),
		call("close", unix.Close(fd)),
	)
	// The real one unlinks once more, and might so remove the next one's lock:
	// it is only done here while nobody else can have made it.
	return err
}

// TestClients runs several processes of each client.
func TestClients(t *testing.T) {
	m := mount(t, mountOptions{})
	for _, c := range []struct {
		role      string
		n, rounds int
		counts    bool // its lock excludes
	}{
		{"msal-python-portalocker", 4, 25, true},
		{"msal-python", 4, 25, true},
		{"msal-dotnet", 8, 30, true},
		{"msal-go", 6, 50, false},
		{"msal-node", 4, 25, true},
		{"azd", 4, 25, true},
		{"kubectl", 4, 25, true},
		{"docker", 4, 50, false},
		{"botocore", 4, 50, false},
		{"sqlite", 4, 25, true},
	} {
		t.Run(c.role, func(t *testing.T) {
			dir := filepath.Join(m.Dir, c.role)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			errs, said := hearClients(t, c.role, dir, c.n, c.rounds)
			mustAll(t, errs)
			b, err := os.ReadFile(filepath.Join(dir, cacheName))
			if err != nil {
				t.Fatal(err)
			}
			n, err := parseDocument(b)
			if c.role == "sqlite" {
				n, err = strconv.Atoi(strings.TrimRight(string(b[:16]), "\x00"))
			}
			if err != nil && c.role != "msal-go" {
				t.Error(err)
			}
			if c.counts && n != c.n*c.rounds {
				t.Errorf("counted %d, want %d: updates were lost:%s", n, c.n*c.rounds, twice(said))
				st := m.status(t)
				t.Logf("%d restarts, %d panics; saves: %+v; it says: %v", st.Worker.Restarts, st.Content.Panics, st.Content.Drafts, st.Messages)
			}
		})
	}
}
