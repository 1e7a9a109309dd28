package main

// Whose a page is, told by the kernel's own array of struct page, read out of the dump.
// The machine is booted with nokaslr, so that array is where Documentation/arch/x86/x86_64/mm.rst
// says. Fields of struct page have kept their offsets for years; those of other types
// have not, so each place is tried, and the one with a name that can be read counts.
const (
	vmemmap        = 0xffffea0000000000
	structPageSize = 64

	pageFlags    = 0
	compoundHead = 8
	pageMapping  = 24
	pageIndex    = 32
	pageType     = 48
	refcount     = 52
)

// owner tells whose the page is: "free", "anon", "slab NAME", "file on FILESYSTEM",
// "page table" or "kernel".
func (d *dump) owner(frame uint64) string {
	page := d.structPage(frame)
	if page == 0 {
		return "no struct page"
	}
	kind := uint32(d.virtual(page+pageType) & 0xffffffff)
	refs := uint32(d.virtual(page+pageType) >> 32)
	switch kind >> 24 { // Linux 6.11 and later: one byte is the type
	case 0xf0:
		return "free"
	case 0xf2:
		return "page table"
	case 0xf5:
		return "slab " + d.slab(page)
	case 0xff: // before: bits that are cleared; free counts as "buddy"
		switch ^kind & 0xfff {
		case 0x80:
			return "free"
		case 0x200, 0x400:
			return "page table"
		}
	}
	const slabFlag = 1 << 9 // before Linux 6.11
	if d.virtual(page+pageFlags)&slabFlag != 0 {
		if name := d.slab(page); name != "" {
			return "slab " + name
		}
	}
	mapping := d.virtual(page + pageMapping)
	switch {
	case refs == 0:
		return "free" // inside a larger free block, or on a CPU's list
	case mapping&3 == 1:
		return "anon"
	case mapping != 0 && mapping&3 == 0 && kernelAddress(mapping):
		return "file on " + d.filesystem(mapping)
	}
	return "kernel"
}

// mapping is the address_space that the page belongs to, the same for all of a file's
// pages; 0 where it belongs to none.
func (d *dump) mapping(frame uint64) uint64 {
	page := d.structPage(frame)
	if page == 0 || uint32(d.virtual(page+pageType)>>32) == 0 {
		return 0
	}
	if mapping := d.virtual(page + pageMapping); mapping&3 == 0 && kernelAddress(mapping) {
		return mapping
	}
	return 0
}

// index is the number of a page in its file; those of huge ones are not told apart.
func (d *dump) index(frame uint64) uint64 { return d.virtual(d.structPage(frame) + pageIndex) }

// structPage is the address of a page's struct page, of a compound page that of its
// head; 0 where there is none.
func (d *dump) structPage(frame uint64) uint64 {
	page := vmemmap + frame*structPageSize
	if _, ok := d.translate(page); !ok {
		return 0
	}
	if head := d.virtual(page + compoundHead); head&1 == 1 {
		return head - 1
	}
	return page
}

func (d *dump) slab(page uint64) string {
	for _, cache := range []uint64{24, 8, 16} { // slab.slab_cache
		at := d.virtual(page + cache)
		if !kernelAddress(at) {
			continue
		}
		for name := uint64(64); name < 192; name += 8 { // kmem_cache.name
			if s := d.name(d.virtual(at + name)); len(s) >= 3 {
				return s
			}
		}
	}
	return ""
}

func (d *dump) filesystem(mapping uint64) string {
	host := d.virtual(mapping)                // address_space.host, its first field
	for _, sb := range []uint64{40, 32, 48} { // inode.i_sb
		for _, typ := range []uint64{40, 32, 48} { // super_block.s_type
			if s := d.name(d.virtual(d.virtual(d.virtual(host+sb) + typ))); len(s) >= 2 {
				return s
			}
		}
	}
	return "?"
}
