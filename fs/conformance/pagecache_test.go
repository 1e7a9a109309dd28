package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An observer counts a file's pages in the page cache. It holds a descriptor
// from before: opening the file later would itself drop them.
type observer struct {
	fd   int
	data []byte // mapped where the kernel has no cachestat, for mincore
}

const observed = 200_000 // bytes of each file, not a multiple of a page

func observe(t testing.TB, path string) *observer {
	t.Helper()
	return observeAs(t, path, unix.O_RDWR, observed)
}

func observeAs(t testing.TB, path string, access, size int) *observer {
	t.Helper()
	fd, err := unix.Open(path, access|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{fd: fd}
	t.Cleanup(func() {
		if o.data != nil {
			unix.Munmap(o.data)
		}
		unix.Close(fd)
	})
	if err := unix.Cachestat(uint(fd), &unix.CachestatRange{}, &unix.Cachestat_t{}, 0); err == unix.ENOSYS {
		if o.data, err = unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_PRIVATE); err != nil {
			t.Fatalf("no cachestat, and no mapping for mincore: %v", err)
		}
	} else if err != nil {
		t.Fatalf("cachestat: %v", err)
	}
	return o
}

// pages is how many there are; neither call reads the file.
func (o *observer) pages(t testing.TB) int {
	t.Helper()
	if o.data == nil {
		var st unix.Cachestat_t
		if err := unix.Cachestat(uint(o.fd), &unix.CachestatRange{}, &st, 0); err != nil {
			t.Fatalf("cachestat: %v", err)
		}
		return int(st.Cache)
	}
	vec := make([]byte, (len(o.data)+4095)/4096)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&o.data[0])), uintptr(len(o.data)), uintptr(unsafe.Pointer(&vec[0]))); errno != 0 {
		t.Fatalf("mincore: %v", errno)
	}
	n := 0
	for _, v := range vec {
		n += int(v & 1)
	}
	return n
}

// uses are what is done to a file before it is closed; they say whether its
// pages must be seen in between.
var uses = map[string]func(t testing.TB, path string, o *observer) (sawPages bool){
	"written and read": func(t testing.TB, path string, o *observer) bool {
		b, err := os.ReadFile(path)
		if err != nil || len(b) != observed {
			t.Fatal(len(b), err)
		}
		if err := os.WriteFile(path, bytes.ToUpper(b), 0o600); err != nil {
			t.Fatal(err)
		}
		return true
	},
	"sent to a pipe": func(t testing.TB, path string, o *observer) bool {
		out, err := exec.Command("sh", "-c", `cat < "$0" | wc -c`, path).CombinedOutput()
		if err != nil {
			t.Fatal(string(out), err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		if n, err := unix.Splice(int(f.Fd()), nil, p[1], nil, 8192, 0); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		return true
	},
	"mapped shared and read":     mapAndTouch(unix.MAP_SHARED, unix.PROT_READ),
	"mapped shared and written":  mapAndTouch(unix.MAP_SHARED, unix.PROT_READ|unix.PROT_WRITE),
	"mapped private and read":    mapAndTouch(unix.MAP_PRIVATE, unix.PROT_READ),
	"mapped private and written": mapAndTouch(unix.MAP_PRIVATE, unix.PROT_READ|unix.PROT_WRITE),
	"mapped by a process that is killed": func(t testing.TB, path string, o *observer) bool {
		cmd := roleCommand(t, "mapper", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 10)) // it has touched every page
		saw := o.pages(t) > 0
		cmd.Process.Kill()
		cmd.Wait()
		return saw
	},
}

func mapAndTouch(flags, prot int) func(t testing.TB, path string, o *observer) bool {
	return func(t testing.TB, path string, o *observer) bool {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		data, err := unix.Mmap(fd, 0, observed, prot, flags)
		if err == unix.ENODEV && flags == unix.MAP_SHARED && !kernelAtLeast(6, 6) {
			t.Skip("no shared mappings of files with direct I/O before Linux 6.6")
		}
		if err != nil {
			t.Fatal(err)
		}
		touch(data, prot&unix.PROT_WRITE != 0)
		saw := o.pages(t) > 0
		if prot&unix.PROT_WRITE != 0 {
			if err := unix.Msync(data[:4096], unix.MS_SYNC); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Munmap(data); err != nil {
			t.Fatal(err)
		}
		return saw
	}
}

func touch(data []byte, write bool) (sum byte) {
	for i := 0; i < len(data); i += 4096 {
		sum += data[i]
		if write {
			data[i] = 'T'
		}
	}
	return sum
}

func init() {
	roles["mapper"] = func(args []byte) error {
		var path string
		if err := json.Unmarshal(args, &path); err != nil {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		data, err := unix.Mmap(fd, 0, observed, unix.PROT_READ|unix.PROT_WRITE, mapFlags())
		if err != nil {
			return err
		}
		touch(data, true)
		fmt.Println("touched")
		for {
			time.Sleep(time.Hour)
		}
	}
}

// TestPageCache sees that no page of a file stays cached when it is closed.
// The same is looked for on tmpfs, whose pages always are: so the observer
// finds what there is to find.
func TestPageCache(t *testing.T) {
	m := mount(t, mountOptions{})
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			paths := [2]string{filepath.Join(m.Dir, "cache.json"), filepath.Join(m.Ref, "cache.json")}
			for i, path := range paths {
				if err := os.WriteFile(path, bytes.Repeat([]byte("s"), observed), 0o600); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(path)
				o := observe(t, path)
				if saw := use(t, path, o); !saw {
					t.Error("the observer did not see the pages of a live mapping")
				}
				if i == 1 {
					if o.pages(t) == 0 {
						t.Error("the observer sees no page of a file on tmpfs")
					}
					continue
				}
				poll(t, 5*time.Second, "the page cache to forget the file", func() bool { return o.pages(t) == 0 })
			}
		})
	}
}

// TestPageCacheExec runs a program from the mount: its text is mapped.
func TestPageCacheExec(t *testing.T) {
	m := mount(t, mountOptions{})
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.Dir, "bicep")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	o := observeAs(t, path, unix.O_RDONLY, len(b)) // a program that is open for writing does not run
	if out, err := exec.Command(path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	poll(t, 5*time.Second, "the page cache to forget the program", func() bool { return o.pages(t) == 0 })
}

// TestPageCacheWipe looks while the file is open, mapped and dirty.
func TestPageCacheWipe(t *testing.T) {
	m := mount(t, mountOptions{})
	path := filepath.Join(m.Dir, "cache.json")
	if err := os.WriteFile(path, bytes.Repeat([]byte("s"), observed), 0o600); err != nil {
		t.Fatal(err)
	}
	o := observe(t, path)
	data, err := unix.Mmap(o.fd, 0, observed, unix.PROT_READ|unix.PROT_WRITE, mapFlags())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	touch(data, true)
	if o.pages(t) == 0 {
		t.Fatal("the observer does not see the pages of a live mapping")
	}
	m.wipe(t)
	poll(t, 5*time.Second, "the page cache to forget what was wiped", func() bool { return o.pages(t) == 0 })
}
