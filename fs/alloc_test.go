package fs

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// What clients read and write must not reach the heap; so the hot operations
// are held to no allocation at all.
func BenchmarkContents(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 32 << 10, 128 << 10} {
		s := newBench(b, 64<<20, 1<<10)
		node := s.createFile(b, "cache")
		data := bytes.Repeat([]byte{'x'}, size)
		b.Run(fmt.Sprintf("write/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if errno := s.writeAt(node, 0, data); errno != 0 {
					b.Fatal(errno)
				}
			}
		})
		b.Run(fmt.Sprintf("read/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, errno := s.readAt(node, 0, size); errno != 0 {
					b.Fatal(errno)
				}
			}
		})
	}
}

func TestContentsDoNotAllocate(t *testing.T) {
	s := newBench(t, 64<<20, 1<<10)
	node := s.createFile(t, "cache")
	for _, size := range []int{1, 200, 4 << 10, 32 << 10, 128<<10 - 1, 128 << 10} {
		data := bytes.Repeat([]byte{'x'}, size)
		fixed, read := writeFixed(0, size), writeFixed(0, size)
		for name, op := range map[string]func(){
			"write": func() { s.send(opWrite, node, fixed, data); s.call() },
			"read":  func() { s.send(opRead, node, read); s.call() },
		} {
			op() // the first write of a file makes its block table
			if n := testing.AllocsPerRun(200, op); n != 0 {
				t.Errorf("%s of %d bytes: %v allocations", name, size, n)
			}
		}
	}
}

// A script is what the kernel asks for when a client does something once: see
// bench/traces.txt. The requests are made beforehand.
type script struct {
	b    *bench
	asks []ask
}

type ask struct {
	op   uint32
	node uint64
	body []byte
	want unix.Errno
}

func (s *script) ask(op uint32, node uint64, want unix.Errno, parts ...[]byte) {
	s.asks = append(s.asks, ask{op, node, bytes.Join(parts, nil), want})
}

// run puts the handle that the OPEN gives into what follows it.
func (s *script) run(t testing.TB) {
	var fh uint64
	for _, a := range s.asks {
		switch s.b.send(a.op, a.node, a.body); a.op {
		case opRead, opWrite, opFlush, opRelease:
			*as[uint64](s.b.r.mem[inHeaderSize:]) = fh
		}
		if errno := s.b.call(); errno != a.want {
			t.Fatalf("request of kind %d: %v, want %v", a.op, errno, a.want)
		}
		if a.op == opOpen {
			fh = as[fuse.OpenOut](s.b.r.reply[outHeaderSize:]).Fh
		}
	}
}

func (b *bench) loading(node uint64, size int) *script {
	s := &script{b: b}
	s.ask(opOpen, node, 0, u32(unix.O_RDONLY, 0))
	s.ask(opGetattr, node, 0, make([]byte, 16))
	s.ask(opRead, node, 0, writeFixed(0, size+1))
	s.ask(opRead, node, 0, writeFixed(uint64(size), 1))
	s.ask(opRelease, node, 0, make([]byte, 24))
	return s
}

func (b *bench) saving(node uint64, size int) *script {
	s := &script{b: b}
	s.ask(opOpen, node, 0, u32(unix.O_WRONLY|unix.O_TRUNC, 0))
	s.ask(opGetxattr, node, unix.ENODATA, u32(20, 0), cstr("security.capability"))
	s.ask(opWrite, node, 0, writeFixed(0, size), bytes.Repeat([]byte{'x'}, size))
	if b.cfg.WholeSaves {
		s.ask(opFlush, node, 0, make([]byte, 24))
	}
	s.ask(opRelease, node, 0, make([]byte, 24))
	return s
}

// TestLoadAndSaveAllocateLittle holds whole loads and saves to fewer than five
// allocations in the worker.
func TestLoadAndSaveAllocateLittle(t *testing.T) {
	const most = 4
	b := newBench(t, 64<<20, 1<<10)
	b.thread = uint32(os.Getppid()) // who is alive
	node := b.createFile(t, "cache")
	for _, size := range []int{200, 32 << 10} {
		save, load := b.saving(node, size), b.loading(node, size)
		for name, s := range map[string]*script{"save": save, "load": load} {
			save.run(t)
			if n := testing.AllocsPerRun(200, func() { s.run(t) }); n > most {
				t.Errorf("%s of %d bytes: %v allocations", name, size, n)
			} else {
				t.Logf("%s of %d bytes: %v allocations", name, size, n)
			}
		}
	}
}

func BenchmarkLoad(b *testing.B) { benchmarkScript(b, (*bench).loading) }
func BenchmarkSave(b *testing.B) { benchmarkScript(b, (*bench).saving) }
func BenchmarkSaveInPlace(b *testing.B) {
	benchmarkScript(b, func(s *bench, node uint64, size int) *script {
		s.cfg.WholeSaves = false
		return s.saving(node, size)
	})
}

func benchmarkScript(b *testing.B, script func(*bench, uint64, int) *script) {
	for _, size := range []int{200, 32 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := newBench(b, 64<<20, 1<<10)
			s.thread = uint32(os.Getppid()) // who is alive
			node := s.createFile(b, "cache")
			s.saving(node, size).run(b)
			one := script(s, node, size)
			b.ReportAllocs()
			for b.Loop() {
				one.run(b)
			}
		})
	}
}
