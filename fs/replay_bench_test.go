package fs

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkResume is what a worker does between its start and its first
// request, with so many files in a hundred directories, each of a line.
func BenchmarkResume(b *testing.B) {
	for _, files := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			const quota, inodes = 512 << 20, 200_000
			filled := newBench(b, quota, inodes)
			fill(b, filled, files)
			b.ReportAllocs()
			for b.Loop() {
				next := filled.attach(b)
				if next.files != files {
					b.Errorf("%d files came back, not %d", next.files, files)
				}
				next.end()
			}
		})
	}
}

// fill makes files as programs do: created, written, closed and forgotten.
func fill(b testing.TB, s *bench, files int) {
	var dirs []uint64
	for i := range min(100, files) {
		s.send(opMkdir, rootIno, u32(0o700, 0), cstr(fmt.Sprint("d", i)))
		if errno := s.call(); errno != 0 {
			b.Fatal(errno)
		}
		dirs = append(dirs, s.r.looked)
	}
	for i := range files {
		s.send(opCreate, dirs[i%len(dirs)], u32(unix.O_RDWR, unix.S_IFREG|0o600, 0, 0), cstr(fmt.Sprint("f", i)))
		if errno := s.call(); errno != 0 {
			b.Fatal(errno)
		}
		ino := s.r.looked
		if errno := s.writeAt(ino, 0, fmt.Appendf(nil, "contents of %d", i)); errno != 0 {
			b.Fatal(errno)
		}
		s.send(opForget, ino, u64(1))
		s.call()
	}
}
