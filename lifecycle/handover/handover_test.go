package handover

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/process"
)

// startProcess starts a process that does nothing, as a handover knows it.
func startProcess(t *testing.T) process.Handle {
	t.Helper()
	p := process.Handle{Fd: -1}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &p.Fd, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.Pid = cmd.Process.Pid
	t.Cleanup(func() { p.Kill(); cmd.Wait(); p.Close() })
	return p
}

func ourselves(t *testing.T) process.Handle {
	t.Helper()
	p, err := process.This()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func testHandover(t *testing.T) (h *Giver, end int) {
	t.Helper()
	h, theirs, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	defer theirs.Close()
	if end, err = unix.Dup(int(theirs.Fd())); err != nil {
		t.Fatal(err)
	}
	return h, end
}

// dead is a process that has ended and whose pid has come round to this one.
func dead(t *testing.T) process.Handle {
	t.Helper()
	p := process.Handle{Fd: -1}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &p.Fd}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.Pid = os.Getpid()
	return p
}

// A handover is for one process: any other that claims it gets nothing, and does
// not use it up. That it has the right pid is not enough.
func TestHandoverIsForOneProcess(t *testing.T) {
	for name, p := range map[string]process.Handle{"another process": startProcess(t), "its pid has come round": dead(t)} {
		t.Run(name, func(t *testing.T) {
			h, end := testHandover(t)
			accepted := make(chan error, 1)
			go func() {
				conn, err := h.Accept(p)
				if err == nil {
					conn.Close()
				}
				accepted <- err
			}()
			for range 3 {
				again, err := unix.Dup(end)
				if err != nil {
					t.Fatal(err)
				}
				conn, err := Claim(again)
				if err != nil {
					t.Fatal(err)
				}
				conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("whoever is not waited for gets %d bytes, %v", n, err)
				}
				conn.Close()
			}
			unix.Close(end)
			if err := <-accepted; !errors.Is(err, io.EOF) {
				t.Errorf("accept ended with %v", err)
			}
		})
	}
}

// A message that is no claim does not use it up either, and leaves nothing open.
func TestHandoverFindsItsProcess(t *testing.T) {
	us := ourselves(t)
	h, end := testHandover(t)
	before := openFiles(t)
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fds := range [][]int{nil, {null, null}, {null, null, null, null, null}} {
		if err := unix.Sendmsg(end, []byte("x"), rightsOf(fds), nil, 0); err != nil {
			t.Fatal(err)
		}
		fd, pid, err := h.next()
		if err != nil || pid != us.Pid || (fd < 0) != (fds == nil) {
			t.Errorf("%d descriptors: %d, %d, %v", len(fds), fd, pid, err)
		}
		process.CloseAll([]int{fd})
	}
	unix.Close(null)
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, and %d were", after, before)
	}
	claimed := make(chan *net.UnixConn, 1)
	go func() {
		conn, err := Claim(end)
		if err != nil {
			t.Error(err)
		}
		claimed <- conn
	}()
	giver, err := h.Accept(us)
	if err != nil {
		t.Fatal(err)
	}
	defer giver.Close()
	taker := <-claimed
	defer taker.Close()
	// More than fits in one of the kernel's buffers.
	said := strings.Repeat("state", 30<<10)
	sent := make(chan error, 1)
	go func() {
		err := SendState(giver, said, 0, 1)
		if err == nil {
			_, err = giver.Write([]byte("a line\n"))
		}
		sent <- err
	}()
	var heard string
	fds, err := ReceiveState(taker, &heard, 2)
	if err != nil || heard != said {
		t.Fatalf("%d of %d bytes came, %v", len(heard), len(said), err)
	}
	process.CloseAll(fds)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	if n, err := taker.Read(line); string(line[:n]) != "a line\n" {
		t.Errorf("what came after it: %q, %v", line[:n], err)
	}
}

func rightsOf(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A message of a handover that is not as it should be is an error, and what came
// with it is closed.
func TestStateThatMakesNoSense(t *testing.T) {
	for name, send := range map[string]func(*net.UnixConn) error{
		"too many descriptors": func(c *net.UnixConn) error { return SendState(c, 1, 0, 0, 0) },
		"too few":              func(c *net.UnixConn) error { return SendState(c, 1) },
		"of another kind":      func(c *net.UnixConn) error { return SendState(c, "text", 0, 0) },
		"longer than allowed": func(c *net.UnixConn) error {
			_, _, err := c.WriteMsgUnix([]byte{1, 0, 0, 0}, rightsOf([]int{0, 0}), nil)
			return err
		},
		"no length": func(c *net.UnixConn) error {
			_, _, err := c.WriteMsgUnix([]byte{1}, rightsOf([]int{0, 0}), nil)
			return err
		},
		"cut short": func(c *net.UnixConn) error {
			_, _, err := c.WriteMsgUnix([]byte{0, 0, 0, 9, '1'}, rightsOf([]int{0, 0}), nil)
			return err
		},
		"nothing": func(c *net.UnixConn) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			giver, err1 := connOf(pair[0])
			taker, err2 := connOf(pair[1])
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			defer taker.Close()
			before := openFiles(t)
			if err := send(giver); err != nil {
				t.Fatal(err)
			}
			giver.Close()
			var n int
			if fds, err := ReceiveState(taker, &n, 2); err == nil {
				t.Errorf("taken for %d with descriptors %d", n, fds)
			}
			if after := openFiles(t); after != before-1 {
				t.Errorf("%d files are open, and %d were", after, before)
			}
		})
	}
	if err := SendState(nil, slices.Repeat([]string{"x"}, stateLimit)); err == nil {
		t.Error("more is sent than is received")
	}
}

// A peer that ends with something unread has the next read fail, which is no length.
func TestReadFromOneThatEnded(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connOf(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	in := &RightsReader{Conn: conn}
	if n, err := in.Read(make([]byte, 8)); n != 0 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// The kernel ends a process with such a timer when it is stopped.
func TestKillTimerEndsAStoppedProcess(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKillTimerHelper$")
	cmd.Env = append(os.Environ(), "_TOKENFS_TEST_KILLTIMER=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("it did not come to be stopped: %v, %v", ws, err)
	}
	giveUp := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	_, err := unix.Wait4(cmd.Process.Pid, &ws, 0, nil)
	if !giveUp.Stop() || err != nil || ws.Signal() != unix.SIGKILL {
		t.Errorf("it ended with %v, %v", ws, err)
	}
}

// TestKillTimerHelper is that process.
func TestKillTimerHelper(t *testing.T) {
	if os.Getenv("_TOKENFS_TEST_KILLTIMER") == "" {
		t.Skip("part of TestKillTimerEndsAStoppedProcess")
	}
	timer, err := process.KillAfter(time.Hour)
	if err == nil {
		err = timer.Set(300 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(os.Getpid(), unix.SIGSTOP)
	select {}
}

// Whatever comes over a handover is a value of the kind that is waited for, with no
// more descriptors than may come, or an error that leaves none of them open.
func FuzzReceiveState(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, '1'}, uint8(2))
	f.Add([]byte{0, 0, 0, 4, 'n', 'u', 'l', 'l'}, uint8(0))
	f.Add([]byte{0, 0, 0, 9, '1'}, uint8(1))
	f.Add([]byte{255, 255, 255, 255, '1'}, uint8(3))
	f.Add([]byte{0, 0}, uint8(5))
	f.Fuzz(func(t *testing.T, said []byte, files uint8) {
		if len(said) == 0 || len(said) > 64<<10 {
			t.Skip("nothing is sent, or more than a socket takes at once")
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		taker, err := connOf(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		defer taker.Close()
		before := openFiles(t)
		rights := rightsOf(slices.Repeat([]int{0}, int(files%8)))
		if err := unix.Sendmsg(pair[0], said, rights, nil, 0); err != nil {
			t.Fatal(err)
		}
		unix.Close(pair[0])
		var v struct{ X int }
		fds, err := ReceiveWithin(taker, Timeout, &v, 0, 2)
		if len(fds) > 2 || err != nil && len(fds) > 0 {
			t.Errorf("%d descriptors, %v", len(fds), err)
		}
		process.CloseAll(fds)
		if after := openFiles(t); after != before-1 {
			t.Errorf("%d files are open, and %d were", after, before)
		}
	})
}
