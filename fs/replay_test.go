package fs

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

// storm sends random requests, valid and not, to a bench.
type storm struct {
	*bench
	rng   *rand.Rand
	nodes []uint64
	open  []opened
}

// opened is a handle, or one that never was.
type opened struct{ node, fh uint64 }

func (s *storm) handle() opened {
	if len(s.open) == 0 || s.rng.IntN(20) == 0 {
		return opened{s.node(), uint64(s.rng.IntN(1000))}
	}
	return s.open[s.rng.IntN(len(s.open))]
}

func (s *storm) node() uint64 { return s.nodes[s.rng.IntN(len(s.nodes))] }
func (s *storm) name() []byte { return cstr(fmt.Sprint("name", s.rng.IntN(12))) }

func (s *storm) offset() uint64 {
	off := uint64(s.rng.IntN(5)*4096 + s.rng.IntN(3)*700)
	if s.rng.IntN(3) == 0 { // on both sides of where an extent begins
		off += uint64(1+s.rng.IntN(3))*extentBytes - 8192
	}
	return off
}

func (s *storm) one() {
	data := pattern(s.rng.Uint64(), s.rng.IntN(12000))
	s.as(uint32(1<<30 + s.rng.IntN(3)))
	switch s.rng.IntN(30) {
	case 0, 1:
		s.send(opCreate, s.node(), u32(uint32(s.rng.IntN(2)*unix.O_TRUNC), unix.S_IFREG|0o600, 0, 0), s.name())
	case 2:
		s.send(opMkdir, s.node(), u32(0o700, 0), s.name())
	case 3:
		s.send(opSymlink, s.node(), nil, s.name(), cstr(strings.Repeat("t", 1+s.rng.IntN(200))))
	case 4:
		s.send(opLink, s.node(), u64(s.node()), s.name())
	case 5, 6:
		s.send(opUnlink, s.node(), nil, s.name())
	case 7:
		s.send(opRmdir, s.node(), nil, s.name())
	case 8:
		s.send(opRename2, s.node(), append(u64(s.node()), u32(uint32(s.rng.IntN(8)), 0)...), s.name(), s.name())
	case 9, 10, 11:
		s.send(opWrite, s.node(), writeFixed(s.offset(), len(data)), data)
	case 12:
		var in fuse.SetAttrInCommon
		in.Valid, in.Size, in.Mode = uint32(s.rng.IntN(16)), s.offset(), 0o640
		b := make([]byte, sizeOf[fuse.SetAttrInCommon]())
		*as[fuse.SetAttrInCommon](b) = in
		s.send(opSetattr, s.node(), b[inHeaderSize:])
	case 13:
		s.send(opFallocate, s.node(), append(u64(0, s.offset(), 1+s.offset()), u32(uint32(s.rng.IntN(4)), 0)...))
	case 14:
		value := data[:min(len(data), 9000)]
		s.send(opSetxattr, s.node(), u32(uint32(len(value)), 0), cstr(fmt.Sprint("user.", s.rng.IntN(3))), value)
	case 15:
		s.send(opRemovexattr, s.node(), nil, cstr(fmt.Sprint("user.", s.rng.IntN(3))))
	case 16:
		s.send(opLookup, s.node(), nil, s.name())
	case 17:
		s.send(opForget, s.node(), u64(uint64(s.rng.IntN(3))))
	case 18:
		s.send(opCopyFileRange, s.node(), u64(0, s.offset(), s.node(), 0, 40960+s.offset(), s.offset(), 0))
	case 19:
		s.send(opTmpfile, s.node(), u32(unix.O_RDWR, unix.S_IFREG|0o600, 0, 0), cstr("x"))
	case 20, 21:
		s.send(opOpen, s.node(), u32(uint32(s.rng.IntN(3)|s.rng.IntN(2)*unix.O_TRUNC|s.rng.IntN(2)*unix.O_APPEND), 0))
	case 22, 23, 24:
		h := s.handle()
		s.send(opWrite, h.node, ioFixed(h.fh, s.offset(), len(data), 0, s.owner, 0), data)
	case 25:
		h := s.handle()
		s.send(opRead, h.node, ioFixed(h.fh, s.offset(), 4096, uint32(s.rng.IntN(2))*readLockOwner, s.owner, 0))
	case 26:
		h := s.handle()
		s.send(uint32(pick(s.rng, opFlush, opFlush, opFsync)), h.node, u64(h.fh, 0, s.owner))
	case 27:
		h := s.handle()
		s.send(opRelease, h.node, u64(h.fh, 0, 0))
		s.open = slices.DeleteFunc(s.open, func(o opened) bool { return o == h })
	case 28:
		h := s.handle()
		b := make([]byte, sizeOf[fuse.SetAttrInCommon]())
		*as[fuse.SetAttrInCommon](b) = fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE | fuse.FATTR_FH | uint32(s.rng.IntN(2))*fuse.FATTR_MTIME,
			Fh: h.fh, Size: uint64(s.rng.IntN(2)) * s.offset(), LockOwner: s.owner}
		s.send(opSetattr, h.node, b[inHeaderSize:])
	case 29:
		s.tidyAt(time.Now().Add(time.Duration(s.rng.IntN(5)) * time.Second))
		return
	}
	errno := s.call()
	if h := *as[fuse.InHeader](s.r.mem); errno == 0 && (h.Opcode == opOpen || h.Opcode == opCreate) {
		node := h.NodeId
		if h.Opcode == opCreate {
			node = s.r.looked
		}
		s.open = append(s.open[max(0, len(s.open)-20):], opened{node, h.Unique})
	}
	if errno == 0 && s.r.looked != 0 {
		s.nodes = append(s.nodes, s.r.looked)
	}
	if len(s.nodes) > 40 {
		s.nodes = append(s.nodes[:1], s.nodes[11:]...) // the root stays
	}
}

// TestReplay compares the index after random operations with the one that a
// successor builds from the log alone, and goes on with the successor. Checkpoints
// are written in between, whole ones and an inode at a time, some of which are
// never finished.
func TestReplay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := &storm{bench: newBench(t, 2<<20, 100), rng: rand.New(rand.NewPCG(seed, 0)), nodes: []uint64{rootIno}}
	who := rand.New(rand.NewPCG(seed, 1))
	look := func(want Answer, thread, other uint32) Answer { return Answer(who.Uint32N(4)) }
	s.answers(t, look)
	for round := range 40 {
		for range 100 {
			s.one()
			s.maybeCheckpoint(t)
		}
		if round%5 == 4 {
			if err := s.compact(); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.panics(); n != 0 {
			t.Fatalf("%d panics", n)
		}
		s.silence()
		next := s.attach(t)
		if diff := compare(s.Server, next.Server); diff != "" {
			t.Fatalf("round %d: %s", round, diff)
		}
		s.end() // or they would all be locked in memory at once
		s.bench = next
		s.readBack(t)
		s.answers(t, look)
	}
}

func (s *storm) maybeCheckpoint(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch {
	case s.ckpt != nil && s.rng.IntN(200) == 0:
		s.abandonCheckpoint()
	case s.ckpt != nil && s.rng.IntN(3) > 0:
		_, err = s.checkpointStep(1)
	case s.ckpt == nil && s.rng.IntN(50) == 0:
		err = s.beginCheckpoint()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

// readBack opens every block: none may have been given to somebody else.
func (s *storm) readBack(t *testing.T) {
	for ino, n := range s.inodes {
		for off := int64(0); n.isRegular() && off < n.size; off += maxIO {
			if _, errno := s.readAt(ino, uint64(off), maxIO); errno != 0 {
				t.Fatalf("reading inode %d at %d: %v", ino, off, errno)
			}
		}
		if n.isSymlink() {
			if got, errno := s.readlink(ino); errno != 0 || got != strings.Repeat("t", n.target.size()) {
				t.Fatalf("inode %d leads to %q: %v", ino, got, errno)
			}
		}
		if n.xattrs == nil {
			continue
		}
		for _, x := range n.xattrs.list {
			s.send(opGetxattr, ino, u32(maxXattr, 0), cstr(x.name))
			if errno := s.call(); errno != 0 || len(s.r.reply) != outHeaderSize+x.size {
				t.Fatalf("attribute of inode %d: %v", ino, errno)
			}
		}
	}
}

// attach opens the memory of b as a successor of its process would.
func (b *bench) attach(t testing.TB) *bench {
	t.Helper()
	b.mu.Lock()
	b.gone.Store(true) // it is dead, and so is its upkeep
	b.mu.Unlock()
	fds := b.mem.FDs()
	for _, fd := range []*int{&fds.Keys, &fds.Arena, &fds.Slots} {
		dup, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		*fd = dup
	}
	var mem *crypt.Memory
	var err error
	crypt.Quietly(func() {
		mem, err = crypt.AttachMemory(MemoryConfig(b.cfg.Quota, b.cfg.Inodes, crypt.SecretmemAuto), fds)
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(-1, mem, b.cfg)
	next := newBenchOf(t, s)
	s.quietly(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		err = s.load()
	})
	if err != nil {
		t.Fatalf("loading: %v", err)
	}
	next.unique = b.unique
	return next
}

// compare says how two indexes differ.
func compare(a, b *Server) string {
	for _, s := range []*Server{a, b} { // whose upkeep may be at work
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	for _, v := range [][2]any{
		{a.usedInodes, b.usedInodes}, {a.usedPages, b.usedPages}, {a.files, b.files}, {a.usedTargets, b.usedTargets},
		{a.nextIno, b.nextIno}, {a.nextVersion, b.nextVersion}, {a.done, b.done},
		{slices.Sorted(maps.Keys(a.inodes)), slices.Sorted(maps.Keys(b.inodes))},
		{slices.Sorted(maps.Keys(a.versions.all)), slices.Sorted(maps.Keys(b.versions.all))},
		{slices.Sorted(maps.Keys(a.versions.drafts)), slices.Sorted(maps.Keys(b.versions.drafts))},
		{slices.Sorted(maps.Keys(a.versions.former)), slices.Sorted(maps.Keys(b.versions.former))},
	} {
		if !reflect.DeepEqual(v[0], v[1]) {
			return fmt.Sprintf("the books differ: %v, replayed %v", v[0], v[1])
		}
	}
	for ino, n := range a.inodes {
		if x, y := flat(n), flat(b.inodes[ino]); x != y {
			return fmt.Sprintf("inode %d differs:\n%s\nreplayed:\n%s", ino, x, y)
		}
	}
	for ino, v := range a.versions.all {
		w := b.versions.all[ino]
		if x, y := flat(v.inode), flat(w.inode); x != y || v.of.ino != w.of.ino || told(v) != told(w) {
			return fmt.Sprintf("version %d differs:\n%s of %d %+v\nreplayed:\n%s of %d %+v", ino, x, v.of.ino, v.draft, y, w.of.ino, w.draft)
		}
	}
	return ""
}

// told is what the log tells of a draft.
func told(v *version) draft {
	d := v.draft
	d.first, d.last = time.Time{}, time.Time{}
	return d
}

// flat writes an inode out, but for what is not kept.
func flat(n *inode) string {
	c := *n
	c.mapped, c.dir, c.xattrs = false, nil, nil
	c.data.blocks = append([]block{}, c.data.blocks...)
	s := fmt.Sprintf("%+v", c)
	if n.dir != nil {
		list := slices.Collect(maps.Values(n.dir.names))
		slices.SortFunc(list, func(a, b *dirent) int { return cmp.Compare(a.cookie, b.cookie) })
		s += fmt.Sprint(" parent ", n.dir.parent, " next ", n.dir.next)
		for _, e := range list {
			s += fmt.Sprintf(" %+v", *e)
		}
	}
	if n.xattrs != nil {
		s += fmt.Sprintf(" %+v", *n.xattrs)
	}
	return s
}
