package lifecycle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
)

// answerTimeout is how long a healthy keeper may take for a small answer.
const answerTimeout = 5 * time.Second

const (
	// wipeTimeout leaves room for a daemon under full load.
	wipeTimeout = 30 * time.Second
	killTimeout = 2 * time.Second
)

// A client is the other end of the control socket of one mount.
type client struct {
	mountpoint string
	entry      mount.Entry
	conn       *net.UnixConn
	server     *unix.Ucred
}

// dial connects to the daemon behind the mount at mountpoint, and to no other.
func dial(mountpoint string) (*client, error) {
	entry, found, err := mount.At(mountpoint)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, mount.NotMounted(mountpoint)
	case entry.Type != mount.FSType:
		return nil, fault.Errorf(fault.NotMounted, "a %s filesystem is mounted on %s, and not tokenfs", entry.Type, mountpoint)
	case !entry.Ours():
		uid, _ := entry.Owner()
		return nil, fault.Errorf(fault.Mountpoint, "the tokenfs on %s belongs to uid %d, and this is uid %d: run tokenfs as that user", mountpoint, uid, os.Geteuid())
	}
	path := socketOf(entry, mountpoint)
	if err := errors.Join(mount.CheckParent(mountpoint), mount.CheckParent(path)); err != nil {
		return nil, err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer parent.Close()
	conn, err := net.DialTimeout("unix", at(parent, filepath.Base(path)), answerTimeout)
	if err != nil {
		return nil, fault.Errorf(fault.Dead, "%s is mounted, but nobody answers at its control socket (%w): tokenfs unmount or tokenfs mount clears that up", mountpoint, errors.Unwrap(err))
	}
	c := &client{mountpoint: mountpoint, entry: entry, conn: conn.(*net.UnixConn)}
	c.server, err = peerOf(c.conn)
	if err == nil && c.server.Uid != 0 && int(c.server.Uid) != os.Geteuid() {
		err = fault.Errorf(fault.Mountpoint, "the control socket %s is served by uid %d and not by this user: somebody is impersonating the daemon", path, c.server.Uid)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) close() { c.conn.Close() }

// errSilent is a daemon that is there and does not answer.
var errSilent = errors.New("no answer")

// ask sends one request and checks that the answer is about our mount. A keeper
// that becomes another program answers what it has read, and nothing else: the new
// one is asked then.
func (c *client) ask(r request, timeout time.Duration) (reply, error) {
	answer, err := c.askOnce(r, timeout)
	if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		return answer, err
	}
	again, gone := dial(c.mountpoint)
	if gone != nil || again.server.Pid != c.server.Pid {
		if gone == nil {
			again.close()
		}
		return answer, err
	}
	c.conn.Close()
	*c = *again
	return c.askOnce(r, timeout)
}

func (c *client) askOnce(r request, timeout time.Duration) (reply, error) {
	r.V = protocolVersion
	line, err := encode(r)
	if err != nil {
		return reply{}, err
	}
	c.conn.SetDeadline(time.Now().Add(timeout))
	c.conn.Write(line) // if this fails, there may still be an answer that says why
	var answer reply
	line, err = readLine(c.conn, replyLimit)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return answer, fault.Errorf(fault.Dead, "%s: %w from its daemon (pid %d) within %v: it hangs or is stopped; tokenfs unmount ends it", c.mountpoint, errSilent, c.server.Pid, timeout)
	}
	if err != nil {
		return answer, fault.Errorf(fault.Dead, "%s: its daemon ended without an answer: %w", c.mountpoint, err)
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return answer, fmt.Errorf("answer of the daemon (pid %d): %w", c.server.Pid, err)
	}
	if answer.V != protocolVersion {
		return answer, fmt.Errorf("the daemon (pid %d) answers in protocol version %d, and this tokenfs speaks %d: use the one that it was started with", c.server.Pid, answer.V, protocolVersion)
	}
	if answer.Kind != "" {
		return answer, fault.Errorf(answer.Kind, "%s", answer.Error)
	}
	if answer.Dev != c.entry.Dev {
		return answer, fault.Errorf(fault.Dead, "%s: the daemon behind its control socket (pid %d) serves another mount (%s, not %s): unmount the one on top", c.mountpoint, c.server.Pid, answer.Dev, c.entry.Dev)
	}
	return answer, nil
}

func readLine(conn *net.UnixConn, limit int) ([]byte, error) {
	in := bufio.NewReader(conn)
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > limit:
			return nil, fmt.Errorf("answer longer than %d bytes", limit)
		}
	}
}

// Query asks the filesystem at a canonical mountpoint for its status.
func Query(mountpoint string) (Status, error) {
	c, err := dial(mountpoint)
	if err != nil {
		return Status{}, err
	}
	defer c.close()
	answer, err := c.ask(request{Verb: verbStatus}, answerTimeout)
	if err == nil && answer.Status == nil {
		err = fmt.Errorf("the daemon (pid %d) answered without a status", c.server.Pid)
	}
	if err != nil {
		return Status{}, err
	}
	return *answer.Status, nil
}

// WipeAll destroys everything in the filesystem and gives it a fresh key.
func WipeAll(mountpoint string) error {
	c, err := dial(mountpoint)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.ask(request{Verb: verbWipe}, wipeTimeout)
	return err
}

// WipePaths destroys files and trees, each named by its path relative to the
// mount, and says how many files that were and which paths could not be wiped.
func WipePaths(mountpoint string, paths []string) (files int, failed []FailedPath, err error) {
	c, err := dial(mountpoint)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()
	for _, p := range paths { // one each, whatever their length
		answer, err := c.ask(request{Verb: verbWipe, Paths: [][]byte{[]byte(p)}}, wipeTimeout)
		files += answer.Files
		failed = append(failed, answer.Failed...)
		if err != nil {
			return files, failed, fmt.Errorf("wipe %q: %w", p, err)
		}
	}
	return files, failed, nil
}

// SetSkeleton has the filesystem at mountpoint make what is missing of folders
// now, and again after every wipe.
func SetSkeleton(mountpoint string, folders []fs.Folder) error {
	c, err := dial(mountpoint)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.ask(request{Verb: verbSkeleton, Skeleton: folders}, answerTimeout)
	return err
}

// Upgrade has the daemon replace itself by the program that is now at the path
// it was started from, and returns when that serves.
func Upgrade(mountpoint string) (Status, error) {
	before, err := Query(mountpoint)
	if err != nil {
		return Status{}, err
	}
	c, err := dial(mountpoint)
	if err != nil {
		return Status{}, err
	}
	defer c.close()
	var after Status
	deadline := time.Now().Add(wipeTimeout)
	for {
		_, err := c.ask(request{Verb: verbUpgrade}, wipeTimeout)
		if err == nil {
			break
		}
		if fault.KindOf(err) != fault.Busy || time.Now().After(deadline) {
			return Status{}, err
		}
		time.Sleep(20 * time.Millisecond) // the one that the keeper began by itself is as good, if it comes to that
	}
	for ; time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		after, err = Query(mountpoint)
		switch {
		case err == nil && after.Mount.Upgrades > before.Mount.Upgrades && after.Worker.PID != 0:
			return after, nil
		case err == nil && after.Mount.PID != before.Mount.PID, fault.KindOf(err) == fault.NotMounted:
			return after, fault.Errorf(fault.Failed, "%s: the new version did not come up, and everything was wiped: tokenfs mount, and sign in again", mountpoint)
		}
	}
	if err == nil {
		err = fmt.Errorf("%s: the old version goes on: tokenfs status says why", mountpoint)
	}
	return after, err
}
