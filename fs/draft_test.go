package fs

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// Processes of these tests, each with one thread and one table of descriptors.
// No thread has such a number, so none is known to be alive.
const (
	saver = 1<<30 + iota
	loader
	child // of saver
)

func (b *bench) as(process uint32) { b.thread, b.owner = process, uint64(process) }

// answers has every question answered by look from here on, by nobody if it is nil.
func (b *bench) answers(t testing.TB, look func(want Answer, thread, other uint32) Answer) {
	b.silence()
	if b.look = look; look == nil {
		return
	}
	slots := b.mem.Slots()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				answerQuestion(questionAt(slots, 0), look)
				time.Sleep(10 * time.Microsecond)
			}
		}
	}()
	b.silence = sync.OnceFunc(func() { close(stop); <-stopped })
	t.Cleanup(b.silence) // before the memory goes
}

// succeed puts a successor in b's place, which must find all that b had.
func (b *bench) succeed(t testing.TB) {
	t.Helper()
	b.silence()
	next := b.attach(t)
	if diff := compare(b.Server, next.Server); diff != "" {
		t.Fatal(diff)
	}
	next.mostPages, next.quotaPages = b.mostPages, b.quotaPages
	b.end()
	next.owner, next.thread, next.flags = b.owner, b.thread, b.flags
	look := b.look
	*b = *next
	b.answers(t, look)
}

// everyone is alive, and of a process of its own.
func everyone(want Answer, thread, other uint32) Answer {
	if thread == other {
		return AnswerSame
	}
	return 0
}

func killing(killed ...uint32) func(want Answer, thread, other uint32) Answer {
	return func(want Answer, thread, other uint32) Answer {
		if slices.Contains(killed, thread) {
			return everyone(want, thread, other) | AnswerKilled
		}
		return everyone(want, thread, other)
	}
}

func (b *bench) must(t testing.TB, what string, errno unix.Errno) {
	t.Helper()
	if errno != 0 {
		t.Fatalf("%s: %v", what, errno)
	}
}

// open returns the handle.
func (b *bench) open(t testing.TB, node uint64, flags uint32) uint64 {
	t.Helper()
	b.send(opOpen, node, u32(flags, 0))
	b.must(t, "open", b.call())
	return as[fuse.OpenOut](b.r.reply[outHeaderSize:]).Fh
}

func (b *bench) truncateBy(node, fh, size uint64) unix.Errno {
	var in fuse.SetAttrInCommon
	in.Valid, in.Fh, in.Size, in.LockOwner = fuse.FATTR_SIZE, fh, size, b.owner
	if fh != 0 {
		in.Valid |= fuse.FATTR_FH
	}
	return b.setattr(node, in)
}

func (b *bench) setattr(node uint64, in fuse.SetAttrInCommon) unix.Errno {
	body := make([]byte, sizeOf[fuse.SetAttrInCommon]())
	*as[fuse.SetAttrInCommon](body) = in
	b.send(opSetattr, node, body[inHeaderSize:])
	return b.call()
}

func (b *bench) flushBy(node, fh uint64) unix.Errno {
	b.send(opFlush, node, u64(fh, 0, b.owner))
	return b.call()
}

func (b *bench) fsyncBy(node, fh uint64) unix.Errno {
	b.send(opFsync, node, u64(fh, 0))
	return b.call()
}

// releaseBy is sent for nobody.
func (b *bench) releaseBy(node, fh uint64) unix.Errno {
	defer func(was uint32) { b.thread = was }(b.thread)
	b.thread = 0
	b.send(opRelease, node, u64(fh, 0, 0))
	return b.call()
}

func (b *bench) attrOf(t testing.TB, node uint64) (fuse.Attr, uint64) {
	t.Helper()
	b.send(opGetattr, node, make([]byte, 16))
	b.must(t, "getattr", b.call())
	out := as[fuse.AttrOut](b.r.reply[outHeaderSize:])
	return out.Attr, out.AttrValid
}

// load reads as another process does, whatever size there is.
func (b *bench) load(t testing.TB, node uint64) []byte {
	t.Helper()
	defer func(was uint32) { b.as(was) }(b.thread)
	b.as(loader)
	fh := b.open(t, node, unix.O_RDONLY)
	data := b.readAll(t, node, fh, 0, maxIO)
	b.must(t, "release", b.releaseBy(node, fh))
	return data
}

func (b *bench) readAll(t testing.TB, node, fh, off uint64, step int) (data []byte) {
	t.Helper()
	for {
		got, errno := b.readBy(node, fh, off+uint64(len(data)), step)
		if b.must(t, "read", errno); len(got) == 0 {
			return data
		}
		data = append(data, got...)
	}
}

// holds checks what everybody finds in a file, before and after a worker ended.
func (b *bench) holds(t testing.TB, node uint64, want []byte) {
	t.Helper()
	for _, who := range []string{"everybody", "everybody after a restart"} {
		if got := b.load(t, node); !bytes.Equal(got, want) {
			t.Fatalf("%s finds %d bytes %.20q, want %d %.20q", who, len(got), got, len(want), want)
		}
		b.succeed(t)
	}
}

func text(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }

var before, after = text('b', 9000), text('a', 5000)

// newDraft is a file that holds before, and a draft of it by saver.
func newDraft(t *testing.T) (b *bench, node, fh uint64) {
	b = newBench(t, 8<<20, 64)
	b.answers(t, everyone)
	node = b.createFile(t, "cache")
	b.as(saver)
	b.must(t, "write", b.writeAt(node, 0, before))
	fh = b.open(t, node, unix.O_WRONLY|unix.O_TRUNC)
	return b, node, fh
}

// Each of these is the end of a draft.
var commits = map[string]func(t *testing.T, b *bench, node, fh uint64){
	"close": func(t *testing.T, b *bench, node, fh uint64) { b.must(t, "flush", b.flushBy(node, fh)) },
	"fsync": func(t *testing.T, b *bench, node, fh uint64) { b.must(t, "fsync", b.fsyncBy(node, fh)) },
	"last close": func(t *testing.T, b *bench, node, fh uint64) {
		b.must(t, "release", b.releaseBy(node, fh))
	},
	"nothing written for a while": func(t *testing.T, b *bench, node, fh uint64) {
		b.tidyAt(time.Now().Add(draftIdle))
	},
	"written too long": func(t *testing.T, b *bench, node, fh uint64) {
		v := b.versions.drafts[fh]
		v.last = v.last.Add(draftLongest)
		b.tidyAt(v.first.Add(draftLongest))
	},
	"read for a mapping": func(t *testing.T, b *bench, node, fh uint64) {
		b.send(opRead, node, ioFixed(fh, 0, 4096, 0, 0, 0))
		b.must(t, "read", b.call())
	},
	"an append by somebody else": func(t *testing.T, b *bench, node, fh uint64) {
		b.as(loader)
		other := b.open(t, node, unix.O_WRONLY|unix.O_APPEND)
		b.flags = unix.O_APPEND
		b.must(t, "append", b.writeBy(node, other, 0, nil))
		b.flags = 0
	},
	"truncate": func(t *testing.T, b *bench, node, fh uint64) {
		b.must(t, "truncate", b.truncateBy(node, 0, uint64(len(after))))
	},
}

func (b *bench) tidyAt(at time.Time) {
	b.quietly(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.tidy(at)
	})
}

func TestDraftIsCommitted(t *testing.T) {
	for name, commit := range commits {
		t.Run(name, func(t *testing.T) {
			b, node, fh := newDraft(t)
			b.holds(t, node, before)
			b.must(t, "write", b.writeBy(node, fh, 0, after[:4000]))
			b.must(t, "write", b.writeBy(node, fh, 4000, after[4000:]))
			b.holds(t, node, before)
			if got := b.readAll(t, node, fh, 0, 3000); !bytes.Equal(got, after) {
				t.Errorf("its writer reads %d bytes %.20q", len(got), got)
			}
			b.tidyAt(time.Now().Add(draftIdle - time.Second))
			b.holds(t, node, before)
			commit(t, b, node, fh)
			b.as(saver)
			b.holds(t, node, after)
			if n := b.counted(draftsCommitted); n != 1 {
				t.Errorf("%d drafts were committed", n)
			}
			// The handle is like any other from here on.
			b.must(t, "write", b.writeBy(node, fh, 0, before))
			b.holds(t, node, before)
		})
	}
}

// Where a draft grows too large for one, those who read what was before go on
// with it.
func TestDraftThatGrowsIsCommitted(t *testing.T) {
	b, node, fh := newDraft(t)
	data := text('x', maxIO)
	for off := range uint64(draftMost / maxIO) {
		b.must(t, "write", b.writeBy(node, fh, off*maxIO, data))
		b.holds(t, node, before)
	}
	b.must(t, "write", b.writeBy(node, fh, draftMost, data[:1]))
	if got := b.load(t, node); len(got) != draftMost+1 {
		t.Errorf("the file holds %d bytes", len(got))
	}
}

// TestClosers goes through the table of flush.
func TestClosers(t *testing.T) {
	for _, c := range []struct {
		name    string
		written bool
		closer  uint32
		killed  bool
		want    []byte // at once
		atLast  []byte // once there is no descriptor left
	}{
		{"the writer", true, saver, false, after, after},
		{"who has begun it", false, saver, false, nil, nil},
		{"the writer, killed", true, saver, true, before, before},
		{"who has begun it, killed", false, saver, true, before, before},
		{"a child", true, child, false, after, after},
		{"a child before anything is written", false, child, false, before, nil},
		{"a child, killed", true, child, true, before, after},
		{"a child, killed before anything is written", false, child, true, before, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, node, fh := newDraft(t)
			if c.written {
				b.must(t, "write", b.writeBy(node, fh, 0, after))
			}
			if c.killed {
				b.answers(t, killing(c.closer))
			}
			b.as(c.closer)
			b.must(t, "flush", b.flushBy(node, fh))
			b.holds(t, node, c.want)
			b.tidyAt(time.Now().Add(time.Hour))
			if c.killed && c.closer == saver {
				b.holds(t, node, before)
			}
			b.must(t, "release", b.releaseBy(node, fh))
			b.holds(t, node, c.atLast)
			if len(b.versions.all) != 0 {
				t.Errorf("%d versions are left", len(b.versions.all))
			}
			if dropped := b.counted(draftsDropped); dropped != 0 != (c.killed && c.closer == saver) {
				t.Errorf("%d drafts were dropped", dropped)
			}
		})
	}
}

// A killed process may leave a descriptor to a child that goes on.
func TestChildGoesOnAfterItsParentWasKilled(t *testing.T) {
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after[:1000]))
	b.answers(t, killing(saver))
	b.must(t, "flush", b.flushBy(node, fh))
	b.as(child)
	b.must(t, "write", b.writeBy(node, fh, 1000, after[1000:]))
	b.holds(t, node, before)
	b.must(t, "flush", b.flushBy(node, fh))
	b.holds(t, node, after)
}

// Without an answer a close is one.
func TestNobodyAnswers(t *testing.T) {
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.answers(t, nil)
	start := time.Now()
	b.must(t, "flush", b.flushBy(node, fh))
	if waited := time.Since(start); waited < askLimit || waited > 2*askLimit {
		t.Errorf("it took %v", waited)
	}
	b.holds(t, node, after)
}

// A process reads what it has written, through whatever handle.
func TestDraftIsReadByItsProcess(t *testing.T) {
	b, node, fh := newDraft(t)
	other := b.open(t, node, unix.O_RDONLY)
	read := func(want []byte) {
		t.Helper()
		if got := b.readAll(t, node, other, 0, 3000); !bytes.Equal(got, want) {
			t.Errorf("it reads %d bytes %.10q, want %d %.10q", len(got), got, len(want), want)
		}
	}
	read(before) // nothing was written: another thread may be loading
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	read(after)
	b.holds(t, node, before)
	b.readBy(node, other, 0, 3000)
	b.must(t, "flush", b.flushBy(node, fh))
	b.save(t, node, before)
	if rest := b.readAll(t, node, other, 3000, 3000); !bytes.Equal(rest, after[3000:]) {
		t.Errorf("it goes on with %d bytes %.10q", len(rest), rest)
	}
}

// To copy into a draft does not tell whose process that is; to read then may.
func TestDraftThatIsCopiedTo(t *testing.T) {
	b, node, fh := newDraft(t)
	from := b.createFile(t, "from")
	b.must(t, "write", b.writeAt(from, 0, after))
	b.send(opCopyFileRange, from, u64(0, 0, node, fh, 0, uint64(len(after)), 0))
	b.must(t, "copy_file_range", b.call())
	b.answers(t, func(want Answer, thread, other uint32) Answer {
		if other == saver && (thread == saver || thread == child) {
			return AnswerSame
		}
		return 0
	})
	b.holds(t, node, before)
	b.as(child) // another thread of the same process, here
	b.owner = saver
	other := b.open(t, node, unix.O_RDONLY)
	if got := b.readAll(t, node, other, 0, 3000); !bytes.Equal(got, after) {
		t.Errorf("its process reads %d bytes %.10q", len(got), got)
	}
	b.holds(t, node, before)
	b.must(t, "flush", b.flushBy(node, fh))
	b.holds(t, node, after)
}

// Drafts by two handles: each is whole, and the last one stays.
func TestTwoDrafts(t *testing.T) {
	b, node, first := newDraft(t)
	other := text('o', 7000)
	b.as(child)
	second := b.open(t, node, unix.O_RDWR|unix.O_TRUNC)
	b.as(saver)
	b.must(t, "write", b.writeBy(node, first, 0, after))
	b.as(child)
	b.must(t, "write", b.writeBy(node, second, 0, other))
	b.holds(t, node, before)
	b.must(t, "flush", b.flushBy(node, second))
	b.holds(t, node, other)
	b.as(saver)
	b.must(t, "flush", b.flushBy(node, first))
	b.holds(t, node, after)
}

// An appender meets a draft: both are there, also where the kernel goes by the
// size of something else.
func TestDraftAndAppend(t *testing.T) {
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.as(loader)
	log := b.open(t, node, unix.O_WRONLY|unix.O_APPEND)
	b.flags = unix.O_APPEND
	b.must(t, "append", b.writeBy(node, log, uint64(len(before)), []byte("line")))
	b.holds(t, node, append(slices.Clone(after), "line"...))
	b.must(t, "append", b.writeBy(node, log, 1, []byte("line")))
	b.holds(t, node, append(slices.Clone(after), "lineline"...))
}

// What begins a draft, and what does not.
func TestWhatBeginsADraft(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		flags uint32
		then  func(t *testing.T, b *bench, node, fh uint64)
		draft bool
	}{
		{"O_TRUNC", 100, unix.O_WRONLY | unix.O_TRUNC, nil, true},
		{"O_RDWR and O_TRUNC", draftMost, unix.O_RDWR | unix.O_TRUNC, nil, true},
		{"O_TRUNC of an empty file", 0, unix.O_WRONLY | unix.O_TRUNC, nil, false},
		{"O_TRUNC of a large file", draftMost + 1, unix.O_WRONLY | unix.O_TRUNC, nil, false},
		{"O_TRUNC and O_APPEND", 100, unix.O_WRONLY | unix.O_TRUNC | unix.O_APPEND, nil, false},
		{"O_TRUNC of one who cannot write", 100, unix.O_RDONLY | unix.O_TRUNC, nil, false},
		{"ftruncate to nothing", 100, unix.O_RDWR, cut(0), true},
		{"ftruncate to something", 100, unix.O_RDWR, cut(50), false},
		{"ftruncate by one who appends", 100, unix.O_RDWR | unix.O_APPEND, cut(0), false},
		{"ftruncate after a read", 100, unix.O_RDWR, func(t *testing.T, b *bench, node, fh uint64) {
			b.readAll(t, node, fh, 0, 4096)
			b.must(t, "ftruncate", b.truncateBy(node, fh, 0))
		}, false},
		{"ftruncate after a read of the middle", 100, unix.O_RDWR, func(t *testing.T, b *bench, node, fh uint64) {
			b.readBy(node, fh, 50, 1)
			b.must(t, "ftruncate", b.truncateBy(node, fh, 0))
		}, false},
		{"ftruncate after a write", 100, unix.O_RDWR, func(t *testing.T, b *bench, node, fh uint64) {
			b.must(t, "write", b.writeBy(node, fh, 0, after))
			b.must(t, "ftruncate", b.truncateBy(node, fh, 0))
		}, false},
		{"ftruncate after a commit", 100, unix.O_RDWR | unix.O_TRUNC, func(t *testing.T, b *bench, node, fh uint64) {
			b.must(t, "write", b.writeBy(node, fh, 0, after))
			b.must(t, "fsync", b.fsyncBy(node, fh))
			b.must(t, "ftruncate", b.truncateBy(node, fh, 0))
		}, false},
		{"truncate", 100, unix.O_RDWR, func(t *testing.T, b *bench, node, fh uint64) {
			b.must(t, "truncate", b.truncateBy(node, 0, 0))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 8<<20, 64)
			b.answers(t, everyone)
			node := b.createFile(t, "cache")
			for off := 0; off < c.size; off += maxIO {
				b.must(t, "write", b.writeAt(node, uint64(off), text('x', min(maxIO, c.size-off))))
			}
			b.as(saver)
			fh := b.open(t, node, c.flags)
			if c.then != nil {
				c.then(t, b, node, fh)
			}
			if is := b.versions.drafts[fh] != nil; is != c.draft {
				t.Errorf("there is a draft: %v", is)
			}
			if flags := b.openFlags(fh); c.draft && flags&fopenNoFlush != 0 {
				t.Error("and its closing will not be heard of")
			}
			b.must(t, "flush", b.flushBy(node, fh))
			b.must(t, "release", b.releaseBy(node, fh))
			if len(b.versions.all) != 0 {
				t.Errorf("%d versions are left", len(b.versions.all))
			}
		})
	}
}

func cut(size uint64) func(t *testing.T, b *bench, node, fh uint64) {
	return func(t *testing.T, b *bench, node, fh uint64) {
		b.must(t, "ftruncate", b.truncateBy(node, fh, size))
	}
}

// Who has begun a draft is told of it, everybody else of what was before, and the
// kernel is to ask each time.
func TestDraftAttributes(t *testing.T) {
	b, node, fh := newDraft(t)
	check := func(process uint32, size int, valid uint64) fuse.Attr {
		t.Helper()
		b.as(process)
		attr, v := b.attrOf(t, node)
		if attr.Size != uint64(size) || v != valid || attr.Blocks != uint64((size+4095)/4096*8) {
			t.Errorf("size %d, %d blocks, for %d seconds; want %d for %d", attr.Size, attr.Blocks, v, size, valid)
		}
		return attr
	}
	check(saver, 0, 0)
	old := check(loader, len(before), 0)
	b.as(saver)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	check(saver, len(after), 0)
	check(0, len(before), 0)
	if attr := check(loader, len(before), 0); attr.Mtime != old.Mtime || attr.Mtimensec != old.Mtimensec {
		t.Error("the time of change is another one before the commit")
	}
	b.as(saver)
	written, _ := b.attrOf(t, node)
	b.must(t, "flush", b.flushBy(node, fh))
	saved := check(loader, len(after), cacheSeconds)
	at := func(a fuse.Attr) stamp { return stamp{int64(a.Mtime), a.Mtimensec} }
	if !at(written).before(at(saved)) {
		t.Errorf("written at %v, saved at %v: who has loaded in between does not load again", at(written), at(saved))
	}
}

// cp -p and others set the time before they close.
func TestTimeOfADraft(t *testing.T) {
	var in fuse.SetAttrInCommon
	in.Valid, in.Mtime, in.Mtimensec = fuse.FATTR_MTIME, 1_000_000, 17
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.must(t, "utimensat", b.setattr(node, in))
	b.as(loader)
	if attr, _ := b.attrOf(t, node); attr.Mtime == 1_000_000 {
		t.Error("what was before has the time of the draft")
	}
	b.as(saver)
	b.must(t, "flush", b.flushBy(node, fh))
	if attr, _ := b.attrOf(t, node); attr.Mtime != 1_000_000 || attr.Mtimensec != 17 {
		t.Errorf("the time that was set is %d.%09d", attr.Mtime, attr.Mtimensec)
	}
}

// A mode is the file's, at once.
func TestModeOfADraft(t *testing.T) {
	b, node, fh := newDraft(t)
	var in fuse.SetAttrInCommon
	in.Valid, in.Mode = fuse.FATTR_MODE, 0o640
	b.must(t, "chmod", b.setattr(node, in))
	b.must(t, "flush", b.flushBy(node, fh))
	if attr, _ := b.attrOf(t, node); attr.Mode != unix.S_IFREG|0o640 || attr.Size != 0 {
		t.Errorf("mode %o, size %d", attr.Mode, attr.Size)
	}
}

// What O_TRUNC and writing take from set-id bits they take at once, from the file.
func TestSetIDOfADraft(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *bench, node, fh uint64) unix.Errno
	}{
		{"O_TRUNC", func(b *bench, node, fh uint64) unix.Errno {
			b.send(opOpen, node, u32(unix.O_WRONLY|unix.O_TRUNC, openKillSuidgid))
			return b.call()
		}},
		{"write", func(b *bench, node, fh uint64) unix.Errno {
			b.send(opWrite, node, ioFixed(fh, 0, 1, writeKillSuidgid, b.owner, 0), []byte("x"))
			return b.call()
		}},
	} {
		b, node, fh := newDraft(t)
		var in fuse.SetAttrInCommon
		in.Valid, in.Mode = fuse.FATTR_MODE, 0o6755
		b.must(t, "chmod", b.setattr(node, in))
		b.must(t, c.name, c.do(b, node, fh))
		if attr, _ := b.attrOf(t, node); attr.Mode&0o7777 != 0o755 {
			t.Errorf("%s leaves mode %04o", c.name, attr.Mode&0o7777)
		}
		b.holds(t, node, before)
	}
}

// A draft outlives its name, and goes with its file.
func TestDraftWithoutName(t *testing.T) {
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.send(opUnlink, rootIno, nil, cstr("cache"))
	b.must(t, "unlink", b.call())
	b.holds(t, node, before)
	b.must(t, "flush", b.flushBy(node, fh))
	b.holds(t, node, after)

	fh = b.open(t, node, unix.O_WRONLY|unix.O_TRUNC)
	b.must(t, "write", b.writeBy(node, fh, 0, before))
	b.send(opForget, node, u64(100)) // RELEASE may come later
	b.call()
	if len(b.versions.all) != 0 || b.usedPages != 0 {
		t.Errorf("%d versions, %d pages are left", len(b.versions.all), b.usedPages)
	}
	b.must(t, "release", b.releaseBy(node, fh))
}

func TestDraftAndWipe(t *testing.T) {
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	if err := b.Wipe(); err != nil {
		t.Fatal(err)
	}
	if errno := b.writeBy(node, fh, 0, after); errno != unix.EIO {
		t.Errorf("write after a wipe: %v", errno)
	}
	b.must(t, "flush", b.flushBy(node, fh))
	b.must(t, "release", b.releaseBy(node, fh))
	if len(b.versions.all) != 0 || b.usedPages != 0 {
		t.Errorf("%d versions, %d pages are left", len(b.versions.all), b.usedPages)
	}

	b, node, fh = newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	if _, err := b.WipePath("cache"); err != nil {
		t.Fatal(err)
	}
	if len(b.versions.all) != 0 || b.usedPages != 0 {
		t.Errorf("%d versions, %d pages are left", len(b.versions.all), b.usedPages)
	}
	b.must(t, "flush", b.flushBy(node, fh))
	b.holds(t, node, nil)
}

// What was served already is not done again, whatever came in between.
func TestDraftIsServedOnce(t *testing.T) {
	b, node, fh := newDraft(t)
	step := func(what string, errno unix.Errno, holds []byte) {
		t.Helper()
		b.must(t, what, errno)
		request := slices.Clone(b.r.mem[:*b.r.length()])
		b.silence()
		look, next := b.look, b.attach(t)
		b.end()
		next.owner, next.thread, next.look = b.owner, b.thread, look
		*b = *next
		b.answers(t, look)
		copy(b.r.mem, request)
		b.must(t, what+", served again", b.call())
		b.holds(t, node, holds)
	}
	step("write", b.writeBy(node, fh, 0, after[:4000]), before)
	step("write", b.writeBy(node, fh, 4000, after[4000:]), before)
	step("flush", b.flushBy(node, fh), after)
	step("release", b.releaseBy(node, fh), after)
	if n := b.counted(draftsCommitted); n != 1 {
		t.Errorf("%d drafts were committed", n)
	}
}

// Off means off, but what was begun before is brought to its end.
func TestWholeSavesOff(t *testing.T) {
	b, node, fh := newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.cfg.WholeSaves = false
	other := b.open(t, node, unix.O_WRONLY|unix.O_TRUNC)
	b.holds(t, node, nil)
	if flags := b.openFlags(other); flags != openFlags {
		t.Errorf("flags %#x", flags)
	}
	b.must(t, "write", b.writeBy(node, other, 0, after[:10]))
	b.holds(t, node, after[:10])
	if errno := b.fsyncBy(node, other); errno != unix.ENOSYS {
		t.Errorf("fsync: %v", errno)
	}

	b, node, fh = newDraft(t)
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.cfg.WholeSaves = false
	b.holds(t, node, before)
	b.must(t, "flush", b.flushBy(node, fh))
	b.holds(t, node, after)
}

// ENOSPC at every block of a save leaves what was before, and close says so.
func TestDraftWithoutRoom(t *testing.T) {
	const pages, beyond = 64, 40
	for most := range int64(12) {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			b := newBench(t, pages*blockSize, 16)
			b.answers(t, everyone)
			node, other := b.createFile(t, "cache"), b.createFile(t, "other")
			b.as(saver)
			old := text('b', 3*blockSize)
			b.must(t, "write", b.writeAt(node, 0, old))
			b.must(t, "write", b.writeAt(other, 0, text('x', 32*blockSize)))
			fh := b.open(t, node, unix.O_WRONLY|unix.O_TRUNC)
			b.versions.drafts[fh].grace = 0 // as if it had none: only what is free and what goes
			b.quotaPages = b.usedPages + most
			saved := text('a', 12*blockSize+100)
			var failed int
			for off := 0; off < len(saved); off += blockSize {
				if errno := b.writeBy(node, fh, uint64(off), saved[off:min(off+blockSize, len(saved))]); errno == unix.ENOSPC {
					failed++
				} else {
					b.must(t, "write", errno)
				}
			}
			// What its file has is the draft's, too.
			if want := max(0, 13-3-int(most)); failed != want {
				t.Errorf("%d writes did not fit, want %d", failed, want)
			}
			b.holds(t, node, old)
			if failed > 0 {
				if errno := b.fsyncBy(node, fh); errno != unix.ENOSPC {
					t.Errorf("fsync: %v", errno)
				}
				if errno := b.flushBy(node, fh); errno != unix.ENOSPC {
					t.Errorf("close: %v", errno)
				}
				b.tidyAt(time.Now().Add(time.Hour))
				b.holds(t, node, old)
				b.must(t, "release", b.releaseBy(node, fh))
				b.holds(t, node, old)
			} else {
				b.must(t, "flush", b.flushBy(node, fh))
				b.holds(t, node, saved)
			}
		})
	}
}

// A draft never fits less than rewriting does without one: where memory has no
// room for two versions, the old one goes.
func TestDraftWhereMemoryEnds(t *testing.T) {
	b := newBench(t, 256*blockSize, 16)
	b.answers(t, everyone)
	node := b.createFile(t, "cache")
	b.as(saver)
	old := text('b', 100*blockSize)
	for off := 0; off < len(old); off += 20 * blockSize {
		b.must(t, "write", b.writeAt(node, uint64(off), old[off:off+20*blockSize]))
	}
	b.mostPages, b.quotaPages = 150, 100
	fh := b.open(t, node, unix.O_WRONLY|unix.O_TRUNC)
	saved := text('a', 100*blockSize)
	for off := 0; off < len(saved); off += 10 * blockSize {
		b.must(t, "write", b.writeBy(node, fh, uint64(off), saved[off:off+10*blockSize]))
		if n := as[fuse.WriteOut](b.r.reply[outHeaderSize:]).Size; n != 10*blockSize {
			t.Fatalf("at %d only %d bytes were taken", off, n)
		}
		if off < 50*blockSize {
			b.holds(t, node, old)
		}
	}
	b.must(t, "flush", b.flushBy(node, fh))
	b.holds(t, node, saved)
}

// Where every key is in use, drafts give theirs up.
func TestDraftWithoutKeys(t *testing.T) {
	b, node, fh := newDraft(t)
	for {
		if _, err := b.mem.Keys.New(); err != nil {
			break
		}
	}
	b.must(t, "write", b.writeBy(node, fh, 0, after))
	b.must(t, "flush", b.flushBy(node, fh))
	if got := b.load(t, node); !bytes.Equal(got, after) {
		t.Errorf("the file holds %d bytes", len(got))
	}
}
