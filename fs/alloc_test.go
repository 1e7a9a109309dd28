package fs

import (
	"bytes"
	"fmt"
	"testing"
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
