package hygiene

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A client is one process of the load: this test binary, started again. What it
// is to do comes over standard input, for it tells what is planted; it ends
// with that.
type client struct {
	dir   string
	r     *rand.Rand
	ps    []planted
	holds map[string][]byte // what each of its files should hold; nil if it is not sure
	ops   *atomic.Uint64    // done, for the test to see
	wiped bool              // the mount is wiped now and then, and errors are expected
}

const files = 24 // a client's, at most

func loadMain() {
	var dir, progress, seedHex string
	var number int
	var wiped bool
	if _, err := fmt.Fscan(os.Stdin, &dir, &progress, &seedHex, &number, &wiped); err != nil {
		panic(err)
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	seed, err := hex.DecodeString(seedHex)
	if err != nil {
		panic(err)
	}
	counters, err := mapCounters(progress)
	if err != nil {
		panic(err)
	}
	c := &client{
		dir: filepath.Join(dir, fmt.Sprint("client", number)), r: rand.New(rand.NewPCG(uint64(number), 1)),
		ps: plan([32]byte(seed)), holds: map[string][]byte{}, ops: &counters[number], wiped: wiped,
	}
	for {
		if err := c.step(); err != nil && !c.wiped {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		c.ops.Add(1)
	}
}

func mapCounters(path string) (*[16]atomic.Uint64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*[16]atomic.Uint64)(unsafe.Pointer(&b[0])), nil
}

func (c *client) step() error {
	path := filepath.Join(c.dir, fmt.Sprint("file", c.r.IntN(files)))
	other := filepath.Join(c.dir, fmt.Sprint("file", c.r.IntN(files)))
	p := c.ps[c.r.IntN(len(c.ps))]
	if c.r.IntN(4) == 0 { // else large ones were rare
		p = c.ps[200+c.r.IntN(len(c.ps)-200)]
	}
	err := c.operate(c.r.IntN(16), path, other, p)
	if errors.Is(err, os.ErrNotExist) {
		// Many operations begin with a file that may not be there; or everything
		// was wiped.
		return os.MkdirAll(c.dir, 0o700)
	}
	return err
}

func (c *client) operate(op int, path, other string, p planted) error {
	holds := c.holds[path]
	switch op {
	case 0, 1, 2, 3, 4: // as MSAL saves
		return c.save(path, p)
	case 5, 6, 7, 8: // and loads
		b, err := os.ReadFile(path)
		if err == nil && holds != nil && !bytes.Equal(b, holds) {
			return fmt.Errorf("%s: %d bytes, not what was written (%d)", path, len(b), len(holds))
		}
		return err
	case 9: // part of a file
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		c.holds[path] = nil
		if _, err = f.WriteAt(p.content, int64(c.r.IntN(10000))); err == nil {
			_, err = f.ReadAt(make([]byte, 3000), int64(c.r.IntN(3000)))
		}
		if err == io.EOF {
			err = nil
		}
		return err
	case 10:
		c.holds[path] = nil
		return os.Truncate(path, int64(c.r.IntN(6000)))
	case 11:
		err := os.Rename(path, other)
		if err == nil && path != other {
			c.holds[other] = holds
			delete(c.holds, path)
		}
		return err
	case 12:
		delete(c.holds, path)
		return os.Remove(path)
	case 13:
		if p.xattr == "" {
			p = c.ps[len(c.ps)-1-c.r.IntN(10)]
		}
		if err := unix.Setxattr(path, p.xattr, p.content, 0); err != nil {
			return err
		}
		b := make([]byte, 8192)
		n, err := unix.Getxattr(path, p.xattr, b)
		if err == nil && !bytes.Equal(b[:n], p.content) {
			return fmt.Errorf("%s: attribute of %d bytes is not what was set (%d)", path, n, len(p.content))
		}
		return errors.Join(err, unix.Removexattr(path, p.xattr))
	case 14:
		return c.mapped(path)
	default:
		return c.copyRange(path, other)
	}
}

func (c *client) save(path string, p planted) error {
	c.holds[path] = nil
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if p.xattr != "" {
		err = unix.Fsetxattr(int(f.Fd()), p.xattr, p.content, 0)
	} else {
		_, err = f.WriteAt(p.content, p.offset)
	}
	if err == nil && p.xattr == "" && p.offset == 0 {
		c.holds[path] = p.content
	}
	if p.offset > 0 {
		// Nobody shall read a file of so many holes from its beginning.
		b := make([]byte, len(p.content))
		_, rerr := f.ReadAt(b, p.offset)
		if err == nil && rerr == nil && !bytes.Equal(b, p.content) {
			err = fmt.Errorf("%s: %d bytes at %d are not what was written", path, len(b), p.offset)
		}
		err = errors.Join(err, rerr, f.Truncate(0))
	}
	return errors.Join(err, f.Close())
}

func (c *client) mapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 || st.Size() > 1<<20 {
		return err
	}
	flags := unix.MAP_SHARED
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, flags)
	if err == unix.ENODEV { // before Linux 6.6
		b, err = unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	}
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	if c.wiped {
		return nil // touching it might be a SIGBUS
	}
	if holds := c.holds[path]; holds != nil && !bytes.Equal(b, holds) {
		return fmt.Errorf("%s: mapped, it does not hold what was written", path)
	}
	return nil
}

func (c *client) copyRange(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if from == to {
		return nil
	}
	c.holds[to] = nil
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = unix.CopyFileRange(int(in.Fd()), nil, int(out.Fd()), nil, 256<<10, 0)
	return err
}

// A load is a number of clients at work.
type load struct {
	t        *testing.T
	counters *[16]atomic.Uint64
	clients  []*exec.Cmd
	ins      []io.Closer
	failed   chan error
}

func startLoad(t *testing.T, dir string, seed [32]byte, clients int, wiped bool) *load {
	t.Helper()
	progress := filepath.Join(t.TempDir(), "progress")
	if err := os.WriteFile(progress, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	counters, err := mapCounters(progress)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, counters: counters, failed: make(chan error, clients)}
	for i := range clients {
		cmd := exec.Command("/proc/self/exe", "load")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(in, dir, progress, hex.EncodeToString(seed[:]), strconv.Itoa(i), wiped)
		l.clients, l.ins = append(l.clients, cmd), append(l.ins, in)
		go func() {
			err := cmd.Wait()
			l.failed <- fmt.Errorf("client %d: %v %s", i, err, stderr.String())
		}()
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) ops() (n uint64) {
	for i := range l.clients {
		n += l.counters[i].Load()
	}
	return n
}

// advance returns when the clients have done n operations more.
func (l *load) advance(n uint64) {
	l.t.Helper()
	const patience = time.Minute // without a single operation
	done := l.ops()
	until, deadline := done+n, time.Now().Add(patience)
	for done < until {
		select {
		case err := <-l.failed:
			l.t.Fatalf("the load ended: %v", err)
		default:
		}
		time.Sleep(100 * time.Microsecond)
		if now := l.ops(); now > done {
			done, deadline = now, time.Now().Add(patience)
		} else if time.Now().After(deadline) {
			l.t.Fatalf("the load has made no progress for %v: %d operations so far", patience, done)
		}
	}
}

// end ends the clients and waits for them.
func (l *load) end() {
	for _, in := range l.ins {
		in.Close()
	}
	for range l.ins {
		if err := <-l.failed; !strings.Contains(err.Error(), "<nil>") {
			l.t.Error(err)
		}
	}
	l.ins = nil
}
