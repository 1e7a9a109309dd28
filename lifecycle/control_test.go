package lifecycle

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/fault/faulttest"
	"tokenfs/lifecycle/mount"
)

// testControl serves the control socket of a mountpoint that needs no mount.
func testControl(t *testing.T, handle func(request) reply) (mountpoint string, c *control) {
	t.Helper()
	mountpoint = runtimeDir(t) + "/m"
	c, err := listen(mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { c.serve(handle, t.Logf) })
	t.Cleanup(func() { c.close(); done.Wait() })
	return mountpoint, c
}

func connect(t *testing.T, mountpoint string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", socketPath(mountpoint))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.UnixConn)
}

func say(t *testing.T, conn *net.UnixConn, line string) (r reply) {
	t.Helper()
	conn.Write([]byte(line)) // fails where the answer comes before all was read
	answer, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%.60q: %v", line, err)
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		t.Fatalf("%.60q: answer %q: %v", line, answer, err)
	}
	return r
}

func TestControlAnswersAndSurvives(t *testing.T) {
	mountpoint, _ := testControl(t, func(r request) reply { return reply{Dev: "0:1", Files: len(r.Paths)} })
	st, err := os.Lstat(socketPath(mountpoint))
	if err != nil || st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket is %v, %v", st.Mode(), err)
	}
	good := func(conn *net.UnixConn) {
		t.Helper()
		if r := say(t, conn, `{"v":1,"verb":"wipe","paths":["YQ==","Yg=="]}`+"\n"); r.V != 1 || r.Dev != "0:1" || r.Files != 2 || r.Kind != "" {
			t.Fatalf("answer %+v", r)
		}
	}
	conn := connect(t, mountpoint)
	for _, bad := range []string{"garbage\n", "\n", "{}\n", `{"v":1,"verb":"format"}` + "\n", "\x00\xff\n", strings.Repeat("[", 20000) + "\n"} {
		if r := say(t, conn, bad); r.Kind != fault.BadRequest || r.Error == "" {
			t.Errorf("%.60q: answer %+v", bad, r)
		}
		good(conn) // on the same connection
	}
	for _, bad := range []string{strings.Repeat("x", requestLimit), strings.Repeat("x", 10*requestLimit) + "\n"} {
		if r := say(t, connect(t, mountpoint), bad); r.Kind != fault.BadRequest || !strings.Contains(r.Error, "longer than 65536") {
			t.Errorf("%d bytes: answer %+v", len(bad), r)
		}
	}
	good(connect(t, mountpoint))
}

func TestControlOutlivesPanics(t *testing.T) {
	mountpoint, _ := testControl(t, func(request) reply { panic("a mistake") })
	conn := connect(t, mountpoint)
	for range 2 {
		if r := say(t, conn, `{"v":1,"verb":"status"}`+"\n"); r.Kind != fault.Failed || strings.Contains(r.Error, "a mistake") {
			t.Errorf("answer %+v", r)
		}
	}
}

// More clients than are served at a time, who say nothing, must not keep others
// out for longer than a request may take.
func TestControlSilentClients(t *testing.T) {
	mountpoint, _ := testControl(t, func(request) reply { return reply{Dev: "0:1"} })
	for range maxClients {
		connect(t, mountpoint)
	}
	conn := connect(t, mountpoint)
	if r := say(t, conn, `{"v":1,"verb":"status"}`+"\n"); r.Dev != "0:1" {
		t.Errorf("answer %+v", r)
	}
}

func TestListenReplacesOnlyStaleSockets(t *testing.T) {
	dir := runtimeDir(t)
	stale := func(name string) string {
		path := dir + "/" + name
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(path), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		return path
	}
	c, err := listen(stale("stale"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()

	t.Run("live", func(t *testing.T) {
		_, err := listen(dir + "/stale") // which is not stale any more
		faulttest.Want(t, err, fault.Mountpoint, "another process listens")
	})
	t.Run("file", func(t *testing.T) {
		if err := os.WriteFile(dir+"/file.sock", []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := listen(dir + "/file")
		faulttest.Want(t, err, fault.Mountpoint, "not a socket", "move it away")
	})
	t.Run("link", func(t *testing.T) {
		if err := os.Symlink("stale.sock", dir+"/link.sock"); err != nil {
			t.Fatal(err)
		}
		_, err := listen(dir + "/link")
		faulttest.Want(t, err, fault.Mountpoint, "not a socket")
	})
	t.Run("another's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("NOT RUN: needs root to make a socket of another user")
		}
		path := stale("theirs")
		if err := os.Lchown(socketPath(path), 12345, 12345); err != nil {
			t.Fatal(err)
		}
		_, err := listen(path)
		faulttest.Want(t, err, fault.Mountpoint, "belongs to uid 12345")
	})
	t.Run("long", func(t *testing.T) {
		deep := filepath.Join(dir, strings.Repeat("d", 200))
		if err := os.Mkdir(deep, 0o700); err != nil {
			t.Fatal(err)
		}
		c, err := listen(deep + "/m")
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if _, err := os.Lstat(deep + "/m.sock"); err != nil {
			t.Error(err)
		}
	})
}

func TestControlRemovesOnlyItsOwnSocket(t *testing.T) {
	mountpoint := runtimeDir(t) + "/m"
	c, err := listen(mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(socketPath(mountpoint)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}

	if c, err = listen(mountpoint); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(socketPath(mountpoint), mountpoint+".moved"); err != nil {
		t.Fatal(err)
	}
	later, err := listen(mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer later.close()
	c.close()
	if _, err := os.Lstat(socketPath(mountpoint)); err != nil {
		t.Errorf("removed the socket of another one: %v", err)
	}
}

func TestControlFinishesAnswers(t *testing.T) {
	asked, finish := make(chan bool), make(chan bool)
	mountpoint, c := testControl(t, func(request) reply { asked <- true; <-finish; return reply{Dev: "0:9"} })
	conn := connect(t, mountpoint)
	go conn.Write([]byte(`{"v":1,"verb":"unmount"}` + "\n"))
	<-asked
	c.close()
	drained := make(chan bool)
	go func() { c.drain(10 * time.Second); close(drained) }()
	select {
	case <-drained:
		t.Fatal("did not wait for the answer")
	case <-time.After(20 * time.Millisecond):
	}
	close(finish)
	if r := say(t, conn, ""); r.Dev != "0:9" {
		t.Errorf("answer %+v", r)
	}
	<-drained
}

func TestPeerIsTheListener(t *testing.T) {
	mountpoint, _ := testControl(t, func(request) reply { return reply{} })
	peer, err := peerOf(connect(t, mountpoint))
	if err != nil || int(peer.Pid) != os.Getpid() || int(peer.Uid) != os.Geteuid() {
		t.Errorf("peer %+v, %v", peer, err)
	}
}

// A client must not take a socket's word for a mount that it does not serve,
// and must not talk to a socket of another user.
func TestClientChecksTheServer(t *testing.T) {
	dev := "0:7"
	mountpoint, _ := testControl(t, func(request) reply { return reply{Dev: dev, Status: &Status{}} })
	conn := connect(t, mountpoint)
	c := &client{mountpoint: mountpoint, entry: mount.Entry{Dev: "0:7"}, conn: conn, server: &unix.Ucred{Pid: 1}}
	if _, err := c.ask(request{Verb: verbStatus}, time.Second); err != nil {
		t.Error(err)
	}
	dev = "0:8"
	_, err := c.ask(request{Verb: verbStatus}, time.Second)
	faulttest.Want(t, err, fault.Dead, "another mount", "0:8", "0:7")
}

func TestClientGivesUp(t *testing.T) {
	release := make(chan bool)
	mountpoint, _ := testControl(t, func(request) reply { <-release; return reply{} })
	defer close(release)
	c := &client{mountpoint: mountpoint, conn: connect(t, mountpoint), server: &unix.Ucred{Pid: 4711}}
	_, err := c.ask(request{Verb: verbStatus}, 50*time.Millisecond)
	faulttest.Want(t, err, fault.Dead, "no answer", "4711")
	if !errors.Is(err, errSilent) {
		t.Error("not recognised as silence")
	}
}
