package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	draftReads = flag.Int("draft.reads", 10_000, "loads of the race between loads and saves")
	draftKills = flag.Int("draft.kills", 90, "savers that are killed")
)

// An edition tells which version it is and how long, and every byte of it follows
// from that: what is no version as a whole cannot look like one.
func edition(n uint64) []byte {
	rng := rand.New(rand.NewPCG(n, 0))
	size := 16 + []int{0, 500, 9000, 40_000, 300_000}[rng.IntN(5)] + rng.IntN(500)
	b := make([]byte, size, size+8)
	binary.LittleEndian.PutUint64(b, n)
	binary.LittleEndian.PutUint64(b[8:], uint64(size))
	for i := 16; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i : i+8 : i+8][:8], rng.Uint64())
	}
	return b[:size]
}

var errNoEdition = errors.New("no version as a whole")

// versionOf says which version b is.
func versionOf(b []byte) (uint64, error) {
	if len(b) < 16 {
		return 0, errNoEdition
	}
	n := binary.LittleEndian.Uint64(b)
	if binary.LittleEndian.Uint64(b[8:]) != uint64(len(b)) || !bytes.Equal(b, edition(n)) {
		return n, errNoEdition
	}
	return n, nil
}

// saver saves versions one after the other, as one of the clients does, and says
// which after each.
type saver struct {
	Path   string
	How    string // see save
	From   uint64
	Pieces int           // written one by one
	Pause  time.Duration // after each piece
	Gap    time.Duration // after each save
}

func init() {
	roles["saver"] = func(args []byte) error {
		var s saver
		if err := json.Unmarshal(args, &s); err != nil {
			return err
		}
		dieOf(unix.SIGSEGV)
		go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
		for n := s.From; ; n++ {
			if err := s.save(edition(n)); err != nil {
				return err
			}
			fmt.Println(n)
			time.Sleep(s.Gap)
		}
	}
	roles["loader"] = func(args []byte) error {
		var l loader
		if err := json.Unmarshal(args, &l); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(l.run())
	}
}

// dieOf has this process die of a signal as programs in C do. Go's runtime makes an
// exit of it, with a status, and that is an end of the program's own will.
func dieOf(sig syscall.Signal) {
	var dfl [4]uint64 // struct sigaction: SIG_DFL, and nothing else
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&dfl)), 0, 8, 0, 0); errno != 0 {
		panic(errno)
	}
}

func (s *saver) save(b []byte) error {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_CLOEXEC
	if s.How != "dotnet" {
		flags |= unix.O_TRUNC
	}
	fd, err := unix.Open(s.Path, flags, 0o600)
	if err != nil {
		return err
	}
	if s.How == "dotnet" { // opens, locks and then truncates
		if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
			return err
		}
		if err := unix.Ftruncate(fd, 0); err != nil {
			return err
		}
	}
	for step := (len(b) + s.Pieces - 1) / s.Pieces; len(b) > 0; {
		n, err := unix.Write(fd, b[:min(step, len(b))])
		if err != nil {
			return err
		}
		b = b[n:]
		if s.Pause > 0 {
			time.Sleep(s.Pause)
		}
	}
	return unix.Close(fd)
}

func startSaver(t *testing.T, s saver) (*exec.Cmd, *versions) {
	t.Helper()
	cmd := roleCommand(t, "saver", s)
	in, err := cmd.StdinPipe()
	must(t, err)
	out := &versions{first: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, out
}

// loader reads without a lock, and counts what it finds.
type loader struct {
	Path  string
	Reads int
	Step  int // bytes at once
}

type loaded struct{ Reads, Empty, Torn, Versions int }

func (l *loader) run() (found loaded) {
	last := uint64(0)
	for ; found.Reads < l.Reads; found.Reads++ {
		b, err := l.load()
		n, wrong := versionOf(b)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		case len(b) == 0:
			found.Empty++
		case wrong != nil:
			found.Torn++
		case n != last:
			found.Versions++
			last = n
		}
	}
	return found
}

func (l *loader) load() ([]byte, error) {
	fd, err := unix.Open(l.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, l.Step)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			return all, err
		}
		all = append(all, buf[:n]...)
	}
}

// race has loaders read while savers save, and says what they found in all.
func race(t *testing.T, m *mounted, how string, pieces, savers, reads int) (all loaded) {
	t.Helper()
	path := filepath.Join(m.Dir, "cache")
	must(t, (&saver{Path: path, Pieces: 1}).save(edition(0)))
	for i := range savers {
		startSaver(t, saver{Path: path, How: how, From: 1 + uint64(i)<<32, Pieces: pieces, Gap: 2 * time.Millisecond})
	}
	var outs [3]bytes.Buffer
	var cmds [3]*exec.Cmd
	for i := range cmds {
		cmds[i] = roleCommand(t, "loader", loader{Path: path, Reads: reads / len(cmds), Step: []int{1 << 20, 8192, 65536}[i]})
		cmds[i].Stdout, cmds[i].Stderr = &outs[i], os.Stderr
		must(t, cmds[i].Start())
	}
	for i, cmd := range cmds {
		must(t, cmd.Wait())
		var one loaded
		must(t, json.Unmarshal(outs[i].Bytes(), &one))
		all.Reads += one.Reads
		all.Empty += one.Empty
		all.Torn += one.Torn
		all.Versions += one.Versions
	}
	t.Logf("%d loads found %d versions, and nothing %d times, and halves %d times", all.Reads, all.Versions, all.Empty, all.Torn)
	return all
}

var races = []struct {
	how            string
	pieces, savers int
}{
	{"one write", 1, 1},
	{"several writes", 5, 1},
	{"dotnet", 3, 1},
	{"several at once", 3, 3},
}

// TestLoadsMeetSaves: no load finds nothing, or a half, whatever saves there are.
func TestLoadsMeetSaves(t *testing.T) {
	for _, r := range races {
		t.Run(r.how, func(t *testing.T) {
			m := mount(t, mountOptions{})
			all := race(t, m, r.how, r.pieces, r.savers, *draftReads/len(races))
			if all.Empty > 0 || all.Torn > 0 {
				t.Errorf("%d of %d loads found nothing, %d a half", all.Empty, all.Reads, all.Torn)
			}
			if all.Versions < 10 {
				t.Errorf("only %d versions were found: this shows nothing", all.Versions)
			}
		})
	}
}

// TestLoadsMeetSavesInPlace is the control: without drafts the same loads find both.
func TestLoadsMeetSavesInPlace(t *testing.T) {
	m := mount(t, mountOptions{PlainSaves: true})
	var all loaded
	for range 20 {
		one := race(t, m, "several writes", 5, 1, 1000)
		if all.Empty, all.Torn = all.Empty+one.Empty, all.Torn+one.Torn; all.Empty > 0 && all.Torn > 0 {
			return
		}
	}
	t.Errorf("%d loads found nothing, %d a half: the race does not show what it is there for", all.Empty, all.Torn)
}

// versions is what a saver has said.
type versions struct {
	buf   []byte
	last  uint64
	any   bool
	first chan struct{}
}

func (v *versions) Write(p []byte) (int, error) {
	v.buf = append(v.buf, p...)
	for {
		line, rest, ok := bytes.Cut(v.buf, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		fmt.Sscan(string(line), &v.last)
		v.buf = rest
		if !v.any {
			v.any = true
			close(v.first)
		}
	}
}

// TestSaverIsKilled kills savers at random moments. What is there afterwards is the
// last version that one has said to be saved, or the one after it.
func TestSaverIsKilled(t *testing.T) {
	m := mount(t, mountOptions{})
	path := filepath.Join(m.Dir, "cache")
	must(t, (&saver{Path: path, Pieces: 1}).save(edition(0)))
	signals := []syscall.Signal{unix.SIGKILL, unix.SIGSEGV, unix.SIGTERM}
	saved := uint64(0)
	for i := range *draftKills {
		cmd, said := startSaver(t, saver{Path: path, From: saved + 1, Pieces: 4, Pause: 500 * time.Microsecond})
		cmd.Stderr = nil
		select {
		case <-said.first:
		case <-time.After(30 * time.Second):
			t.Fatal("a saver saves nothing")
		}
		time.Sleep(time.Duration(rand.IntN(6000)) * time.Microsecond) // at a random moment, not for something to happen
		sig := signals[i%len(signals)]
		must(t, cmd.Process.Signal(sig))
		cmd.Wait()
		b, err := os.ReadFile(path)
		must(t, err)
		n, wrong := versionOf(b)
		if wrong != nil || n < said.last || n > said.last+1 {
			t.Fatalf("kill %d, by %v: %d bytes, version %d, %v; %d was saved last", i, sig, len(b), n, wrong, said.last)
		}
		saved = n
	}
	d := m.status(t).Content.Drafts
	t.Logf("%d kills; %d drafts committed, %d dropped", *draftKills, d.Committed, d.Dropped)
	if d.Dropped < uint64(*draftKills)/10 {
		t.Errorf("only %d of %d kills came in the middle of a save: this shows little", d.Dropped, *draftKills)
	}
	poll(t, 10*time.Second, "no draft to be left of who is gone", func() bool { return len(m.status(t).Content.Drafts.Open) == 0 })
}
