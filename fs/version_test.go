package fs

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// save is a whole one, by another process.
func (b *bench) save(t testing.TB, node uint64, data []byte) {
	t.Helper()
	defer func(was uint32) { b.as(was) }(b.thread)
	b.as(saver)
	fh := b.open(t, node, unix.O_WRONLY|unix.O_TRUNC)
	for off := 0; off < len(data); off += maxIO {
		b.must(t, "write", b.writeBy(node, fh, uint64(off), data[off:min(len(data), off+maxIO)]))
	}
	b.must(t, "flush", b.flushBy(node, fh))
	b.must(t, "release", b.releaseBy(node, fh))
}

func newLoad(t *testing.T) (b *bench, node, fh uint64) {
	b = newBench(t, 8<<20, 64)
	b.answers(t, everyone)
	node = b.createFile(t, "cache")
	b.save(t, node, before)
	b.as(loader)
	return b, node, b.open(t, node, unix.O_RDONLY)
}

// A save between two READs of a load does not join two versions, whatever their
// lengths are, and whoever serves them.
func TestLoadIsOfOneVersion(t *testing.T) {
	for _, next := range [][]byte{after, text('l', 20000), nil} {
		for _, step := range []int{1000, 4096, 8192, len(before), len(before) + 1} {
			b, node, fh := newLoad(t)
			var got []byte
			for saves := 0; ; saves++ {
				part, errno := b.readBy(node, fh, uint64(len(got)), step)
				b.must(t, "read", errno)
				if len(part) == 0 {
					break
				}
				got = append(got, part...)
				if saves < 2 {
					b.save(t, node, next)
					b.holds(t, node, next)
				}
			}
			if !bytes.Equal(got, before) {
				t.Errorf("in steps of %d, %d bytes were loaded, want the %d before the save", step, len(got), len(before))
			}
			b.must(t, "release", b.releaseBy(node, fh))
			if len(b.versions.all) != 0 {
				t.Errorf("%d versions are left", len(b.versions.all))
			}
		}
	}
}

// Who reads again from the beginning, or beyond the end that he has seen, wants
// what is there now; so does who begins in the middle.
func TestLoadAgain(t *testing.T) {
	b, node, fh := newLoad(t)
	longer := text('l', 20000)
	b.readBy(node, fh, 0, 100)
	b.save(t, node, longer)
	if got := b.readAll(t, node, fh, 0, 4096); !bytes.Equal(got, longer) {
		t.Errorf("from the beginning, %d bytes %.10q", len(got), got)
	}
	b.save(t, node, before)
	b.save(t, node, text('m', 30000))
	if got, _ := b.readBy(node, fh, 20000, 10); string(got) != "mmmmmmmmmm" {
		t.Errorf("what came after the end that was seen: %q", got)
	}
	other := b.open(t, node, unix.O_RDONLY)
	b.readBy(node, other, 5, 10)
	b.save(t, node, after)
	if got, _ := b.readBy(node, other, 15, 10); string(got) != "aaaaaaaaaa" {
		t.Errorf("from the middle on, %q", got)
	}
}

// What was read at the end may have to be answered again, by a successor, with a
// save in between.
func TestEndOfALoadIsServedAgain(t *testing.T) {
	b, node, fh := newLoad(t)
	b.readAll(t, node, fh, 0, 4096)
	// The worker ends before it has answered; the next one serves a save first.
	request := slices.Clone(b.r.mem[:*b.r.length()])
	b.succeed(t)
	other := b.newRequest(1)
	mine := b.r
	copy(mine.mem, request) // waits in its slot
	b.r = other
	b.save(t, node, text('l', 20000))
	b.r = mine
	b.must(t, "read", b.call())
	if got := b.r.reply[outHeaderSize:]; len(got) != 0 {
		t.Errorf("%d bytes came after the end", len(got))
	}
	// With the request out of the way nothing is kept for it.
	b.r.finish()
	b.tidyAt(time.Now())
	if len(b.versions.all) != 0 {
		t.Errorf("%d versions are left", len(b.versions.all))
	}
}

// A first READ that is served again does not begin anew.
func TestBeginOfALoadIsServedAgain(t *testing.T) {
	b, node, fh := newLoad(t)
	b.send(opRead, node, ioFixed(fh, 0, 4096, readLockOwner, b.owner, 0))
	b.must(t, "read", b.call())
	request := slices.Clone(b.r.mem[:*b.r.length()])
	b.save(t, node, text('l', 20000))
	copy(b.r.mem, request)
	b.must(t, "read", b.call())
	if got := b.r.reply[outHeaderSize:]; !bytes.Equal(got, before[:4096]) {
		t.Errorf("%.10q", got)
	}
	if got := b.readAll(t, node, fh, 4096, 4096); !bytes.Equal(got, before[4096:]) {
		t.Errorf("the rest is %d bytes %.10q", len(got), got)
	}
}

// Former versions are in nobody's way: where there is no room they go, and their
// readers get what is there.
func TestFormerVersionsGiveWay(t *testing.T) {
	b, node, fh := newLoad(t)
	b.readBy(node, fh, 0, 4096)
	b.save(t, node, after)
	if len(b.versions.former) != 1 {
		t.Fatalf("%d former versions", len(b.versions.former))
	}
	b.quotaPages = b.usedPages
	b.mostPages = b.usedPages
	other := b.createFile(t, "other")
	b.must(t, "write", b.writeAt(other, 0, text('x', 2*blockSize)))
	if len(b.versions.former) != 0 {
		t.Error("a former version is in the way")
	}
	if got, _ := b.readBy(node, fh, 4096, 10); string(got) != "aaaaaaaaaa" {
		t.Errorf("its reader gets %q", got)
	}
	b.holds(t, node, after)
}

// A handle that stays open at the end of what it has read keeps nothing.
func TestFormerVersionsGoWithTheirReaders(t *testing.T) {
	b, node, fh := newLoad(t)
	b.readAll(t, node, fh, 0, 4096)
	b.r.finish()
	b.save(t, node, after)
	if len(b.versions.all) != 0 {
		t.Errorf("%d versions are kept for nobody", len(b.versions.all))
	}
	b.readBy(node, fh, 0, 100)
	b.save(t, node, before)
	if len(b.versions.former) != 1 {
		t.Fatalf("%d former versions", len(b.versions.former))
	}
	b.must(t, "release", b.releaseBy(node, fh))
	if len(b.versions.all) != 0 {
		t.Errorf("%d versions are left", len(b.versions.all))
	}
	if pages := (len(before) + blockSize - 1) / blockSize; b.usedPages != int64(pages) {
		t.Errorf("%d pages are in use, want %d", b.usedPages, pages)
	}
}

// So it is where the version when it was opened was too long for that.
func TestLoadOfASizeAfterALongVersion(t *testing.T) {
	b, node, _ := newLoad(t)
	b.save(t, node, text('z', maxIO+1))
	fh := b.open(t, node, unix.O_RDONLY)
	b.save(t, node, before)
	b.save(t, node, text('l', 20000))
	if got, _ := b.readBy(node, fh, 0, len(before)); !bytes.Equal(got, before) {
		t.Errorf("%d bytes %.10q", len(got), got)
	}
}

// Who has asked for the size of a file, and reads as much in one go, gets that version
// as a whole if a longer one took its place in between.
func TestLoadOfASizeThatWasAsked(t *testing.T) {
	longer := text('l', 20000)
	for _, c := range []struct {
		name string
		next []byte
		size int
		then func(t *testing.T, b *bench)
		want []byte
	}{
		{"a longer version", longer, len(before), nil, before},
		{"and then another one", longer, len(before), func(t *testing.T, b *bench) { b.save(t, 2, text('m', 30000)) }, before},
		{"a longer version, and another worker", longer, len(before), func(t *testing.T, b *bench) { b.succeed(t) }, before},
		{"not the first one since", longer, len(longer), func(t *testing.T, b *bench) { b.save(t, 2, text('m', 30000)) }, longer},
		{"one of the last of many", longer, 11_700, func(t *testing.T, b *bench) {
			for i := range 20 {
				b.save(t, 2, text(byte('A'+i), 10_000+100*i))
			}
			if n := len(b.versions.former); n > formerMost {
				t.Errorf("%d versions are kept", n)
			}
		}, text('R', 11_700)},
		{"a shorter version", after, len(before), nil, after},
		{"a buffer of another size", longer, len(before) + 1, nil, longer[:len(before)+1]},
		{"long ago", longer, len(before), func(t *testing.T, b *bench) { b.tidyAt(time.Now().Add(draftIdle)) }, longer[:len(before)]},
		{"read through another handle before", longer, len(before), func(t *testing.T, b *bench) { b.load(t, 2) }, before},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, node, fh := newLoad(t)
			b.save(t, node, c.next)
			if c.then != nil {
				c.then(t, b)
			}
			got, errno := b.readBy(node, fh, 0, c.size)
			b.must(t, "read", errno)
			if !bytes.Equal(got, c.want) {
				t.Errorf("%d bytes %.10q, want %d %.10q", len(got), got, len(c.want), c.want)
			}
			if c.size != len(before)+1 && bytes.Equal(got, c.want) && c.name != "long ago" {
				if got, _ := b.readBy(node, fh, uint64(len(got)), 10); len(got) != 0 {
					t.Errorf("%d bytes come behind the end", len(got))
				}
				b.r.finish()
			}
			b.must(t, "release", b.releaseBy(node, fh))
			b.tidyAt(time.Now().Add(draftIdle))
			if len(b.versions.all) != 0 {
				t.Errorf("%d versions are left", len(b.versions.all))
			}
		})
	}
}
