package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const pageSize = 4096

// A dump is all of a machine's memory at one instant.
type dump struct {
	file  *os.File
	mem   []byte // the physical addresses, from 0 on
	table uint64 // the physical address of a page table that maps the kernel
}

// takeDump stops the machine, copies its RAM, and lets it go on. A machine that is
// stopped already, because it is suspended, stays so.
func takeDump(m *monitor, ram, to string) (*dump, error) {
	before, err := m.status()
	if err != nil {
		return nil, err
	}
	if before == "running" {
		if err := m.do("stop", nil, nil); err != nil {
			return nil, err
		}
		defer m.do("cont", nil, nil)
	}
	table, err := m.pageTable()
	if err != nil {
		return nil, err
	}
	if err := copySparse(ram, to); err != nil {
		return nil, err
	}
	return openDump(to, table)
}

func openDump(path string, table uint64) (*dump, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		var mem []byte
		if mem, err = unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED); err == nil {
			return &dump{f, mem, table}, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("mapping %s: %w", path, err)
}

func (d *dump) close() {
	unix.Munmap(d.mem)
	d.file.Close()
}

// copySparse copies a file, leaving its holes out.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(st.Size()); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return fmt.Errorf("copying %s: %w", from, err)
		}
		if at, err = unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("copying %s: %w", from, err)
		}
		for data < at {
			n, err := in.ReadAt(buf[:min(int64(len(buf)), at-data)], data)
			if n == 0 {
				return fmt.Errorf("copying %s: %w", from, err)
			}
			if _, err := out.WriteAt(buf[:n], data); err != nil {
				return fmt.Errorf("copying %s: %w", from, err)
			}
			data += int64(n)
		}
	}
}

// extents lists the parts of the memory that were ever written: reading the others
// through the mapping would fill them.
func (d *dump) extents() (all [][2]int) {
	for at := int64(0); ; {
		data, err := unix.Seek(int(d.file.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			return all
		}
		if at, err = unix.Seek(int(d.file.Fd()), data, unix.SEEK_HOLE); err != nil {
			at = int64(len(d.mem))
		}
		all = append(all, [2]int{int(data), int(at)})
	}
}

// frame is one page, nil where there is no such memory.
func (d *dump) frame(n uint64) []byte {
	at := n * pageSize
	if at+pageSize > uint64(len(d.mem)) {
		return nil
	}
	return d.mem[at : at+pageSize]
}

func (d *dump) physical(at uint64) uint64 { // 8 bytes there
	if at+8 > uint64(len(d.mem)) {
		return 0
	}
	return binary.LittleEndian.Uint64(d.mem[at:])
}

// translate walks the four levels of the page table (Intel SDM, volume 3, 4.5).
func (d *dump) translate(virtual uint64) (physical uint64, ok bool) {
	const frame, present, large = 0x000ffffffffff000, 1, 1 << 7
	table := d.table & frame
	for level := 3; ; level-- {
		shift := 12 + 9*level
		entry := d.physical(table + virtual>>shift&511*8)
		if entry&present == 0 {
			return 0, false
		}
		if level == 0 || level < 3 && entry&large != 0 {
			in := uint64(1)<<shift - 1
			return entry&frame&^in + virtual&in, true
		}
		table = entry & frame
	}
}

func (d *dump) virtual(at uint64) uint64 { // 8 bytes there
	if p, ok := d.translate(at); ok {
		return d.physical(p)
	}
	return 0
}

// name is the string at a kernel address, or nothing where there is none.
func (d *dump) name(at uint64) string {
	p, ok := d.translate(at)
	if !ok || !kernelAddress(at) {
		return ""
	}
	for n := uint64(0); n < 40 && p+n < uint64(len(d.mem)); n++ {
		switch c := d.mem[p+n]; {
		case c == 0:
			return string(d.mem[p : p+n])
		case c < ' ' || c > '~':
			return ""
		}
	}
	return ""
}

func kernelAddress(at uint64) bool { return at>>47 == 1<<17-1 }
