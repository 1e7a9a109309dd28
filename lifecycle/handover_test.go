package lifecycle

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// A handover is for one process: any other that comes is sent away with nothing,
// and does not use it up.
func TestHandoverIsForOneProcess(t *testing.T) {
	h, err := newHandover()
	if err != nil {
		t.Fatal(err)
	}
	const another = 1 // init, which does not come
	accepted := make(chan error, 1)
	go func() {
		conn, err := h.accept(another)
		if err == nil {
			conn.Close()
		}
		accepted <- err
	}()
	for range 3 {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: h.name(), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("who is not waited for gets %d bytes, %v", n, err)
		}
		c.Close()
	}
	h.close()
	if err := <-accepted; err == nil {
		t.Errorf("process %d was taken for %d", os.Getpid(), another)
	}
}

func TestHandoverFindsItsProcess(t *testing.T) {
	h, err := newHandover()
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if _, err := connectTo(h.name(), 1); err == nil {
		t.Error("a socket of this process passes for init's")
	}
	c, err := connectTo(h.name(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The one above is waiting, too, and is as good.
	if conn, err := h.accept(os.Getpid()); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}
