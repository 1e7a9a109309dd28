package conformance

import (
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// generator makes operations, without looking at what came of the last ones:
// that is what lets a sequence be shrunk. The name space is small, so that
// most operations meet something.
type generator struct {
	*rand.Rand
	users   int // 0 for root alone
	without omissions
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0x746f6b656e6673))}
}

func pick[T any](g *generator, choices ...T) T { return choices[g.IntN(len(choices))] }

// flags joins some of the bits.
func (g *generator) flags(chance float64, bits ...int) int {
	f := 0
	for _, bit := range bits {
		if g.Float64() < chance {
			f |= bit
		}
	}
	return f
}

func (g *generator) dir() string {
	return pick(g, "", "", "", "d0/", "d0/", "d1/", "d0/d2/", "s0/", "big/", "d0/../d1/", "./", "d1//")
}

func (g *generator) name() string {
	switch n := g.IntN(400); {
	case n < 320:
		return pick(g, "f0", "f1", "f2", "f3", "g0", "g1", "d0", "d1", "d2", "s0", "s1", "p0")
	case n < 370:
		return bigName(g.IntN(bigEntries + 20))
	case n < 372:
		return strings.Repeat("n", 255)
	case n < 374:
		return strings.Repeat("m", 256)
	case n < 376:
		return strings.Repeat("k", 1025)
	case n < 390:
		return pick(g, "a b:c@d", "\xff\xfe", "line\nfeed", ".hidden", "-", "ü", "\x01", `back\slash`)
	default:
		return pick(g, ".", "..", "f0/", "d0/", "d0/.", "f0/.", "d1/..", "")
	}
}

func (g *generator) path() string {
	if g.IntN(25) == 0 {
		p := "@" + string(rune('0'+g.IntN(fdSlots)))
		if g.IntN(3) > 0 {
			p += "/" + g.name()
		}
		return p
	}
	p := g.dir() + g.name()
	if strings.HasPrefix(p, "..") { // that is outside
		return "f0"
	}
	return p
}

func (g *generator) offset() int64 {
	switch n := g.IntN(100); {
	case n < 35:
		return g.Int64N(5000)
	case n < 55:
		return 4096 * g.Int64N(40)
	case n < 75:
		return 4096*g.Int64N(40) + g.Int64N(3) - 1
	case n < 90:
		return g.Int64N(200_000)
	case n < 95:
		return g.Int64N(1 << 40)
	default:
		return pick(g, int64(-1), 1<<31-1, 1<<31, 1<<32, 1<<40, 1<<62, 1<<63-1, 1<<63-4096, 1<<63-4097, -1<<63)
	}
}

// size is how much to write at once.
func (g *generator) size() int64 {
	switch n := g.IntN(100); {
	case n < 40:
		return g.Int64N(300)
	case n < 60:
		return g.Int64N(5000)
	case n < 75:
		return 4096*g.Int64N(5) + g.Int64N(3)
	case n < 97:
		return g.Int64N(20_000)
	default:
		return pick(g, int64(0), 131072, 131073, g.Int64N(300_000))
	}
}

func (g *generator) mode() uint32 {
	return pick(g, uint32(0o644), 0o600, 0o666, 0o755, 0o700, 0o777, 0, 0o1777, 0o2755, 0o4755, 0o6777, uint32(g.IntN(0o10000)))
}

func (g *generator) slot() int { return g.IntN(fdSlots) }

func (g *generator) xattr() string {
	switch g.IntN(40) {
	case 0:
		return "user."
	case 1:
		return "user." + strings.Repeat("x", pick(g, 250, 251))
	case 2:
		return pick(g, "nonsense", "system.nothing", "user", "", "trusted.")
	default:
		return pick(g, "user.a", "user.a", "user.b", "user.c", "trusted.t", "security.s")
	}
}

func (g *generator) xattrSize() int64 {
	return pick(g, int64(0), 1, 16, 100, g.Int64N(300), g.Int64N(300), 4095, 4096, 4097, g.Int64N(65536), 65535, 65536, 65537)
}

// target of a symbolic link.
func (g *generator) target() string {
	switch g.IntN(30) {
	case 0:
		return strings.Repeat("t", pick(g, 1, 127, 128, 129, 4000, 4094, 4095, 4096))
	case 1:
		return ""
	default:
		return pick(g, "f0", "f1", "../f2", "d0", "d0/f1", "nowhere", "s0", "s1", ".", "d1/", "/dev/null/x")
	}
}

func (g *generator) openFlags() int {
	f := pick(g, unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR, unix.O_RDWR, unix.O_WRONLY)
	if g.IntN(100) == 0 {
		f = unix.O_ACCMODE
	}
	f |= g.flags(0.45, unix.O_CREAT) | g.flags(0.15, unix.O_TRUNC, unix.O_APPEND) |
		g.flags(0.06, unix.O_EXCL, unix.O_NOFOLLOW, unix.O_NOATIME, unix.O_DIRECT) |
		g.flags(0.03, unix.O_DIRECTORY, unix.O_SYNC, unix.O_DSYNC, unix.O_PATH, unix.O_LARGEFILE, unix.O_NOCTTY)
	return f
}

// recipe makes an operation of one kind, and says how often it comes.
type recipe struct {
	weight int
	make   func(g *generator) op
}

var recipes = []recipe{
	{110, func(g *generator) op {
		return op{Kind: "open", S: g.slot(), P: g.path(), Flags: g.openFlags(), Mode: g.mode()}
	}},
	{12, func(g *generator) op { // a directory, to read or to hold
		return op{Kind: "open", S: g.slot(), P: pick(g, "", "d0", "d1", "d0/d2", "big", "big", g.path()),
			Flags: unix.O_DIRECTORY | g.flags(0.1, unix.O_PATH, unix.O_NOATIME)}
	}},
	{8, func(g *generator) op {
		return op{Kind: "openat2", S: g.slot(), P: strings.TrimPrefix(g.path(), "@"), Flags: g.openFlags(), Mode: uint32(g.IntN(0o10000)),
			Seed: uint64(g.flags(0.2, unix.RESOLVE_BENEATH, unix.RESOLVE_IN_ROOT, unix.RESOLVE_NO_SYMLINKS, unix.RESOLVE_NO_XDEV, unix.RESOLVE_NO_MAGICLINKS))}
	}},
	{10, func(g *generator) op {
		return op{Kind: "tmpfile", S: g.slot(), P: pick(g, "", "d0", "d1", g.path()), Mode: g.mode(),
			Flags: pick(g, unix.O_RDWR, unix.O_RDWR, unix.O_WRONLY, unix.O_RDONLY) | g.flags(0.2, unix.O_EXCL, unix.O_APPEND)}
	}},
	{8, func(g *generator) op { return op{Kind: "dup", S: g.slot(), T: g.slot()} }},
	{30, func(g *generator) op { return op{Kind: "close", S: g.slot()} }},
	{4, func(g *generator) op {
		return op{Kind: "setfl", S: g.slot(), Flags: g.flags(0.3, unix.O_APPEND, unix.O_NOATIME, unix.O_DIRECT)}
	}},
	{2, func(g *generator) op { return op{Kind: "getfl", S: g.slot()} }},

	{30, func(g *generator) op { return op{Kind: "read", S: g.slot(), Len: g.size()} }},
	{40, func(g *generator) op { return op{Kind: "pread", S: g.slot(), Off: g.offset(), Len: g.size()} }},
	{8, func(g *generator) op { return op{Kind: "readv", S: g.slot(), Off: g.offset(), Len: g.size()} }},
	{45, func(g *generator) op { return op{Kind: "write", S: g.slot(), Len: g.size(), Seed: g.Uint64()} }},
	{60, func(g *generator) op {
		return op{Kind: "pwrite", S: g.slot(), Off: g.offset(), Len: g.size(), Seed: g.Uint64()}
	}},
	{8, func(g *generator) op {
		return op{Kind: "writev", S: g.slot(), Off: g.offset(), Len: g.size(), Seed: g.Uint64(), Flags: g.flags(0.2, unix.RWF_APPEND, unix.RWF_DSYNC)}
	}},
	{15, func(g *generator) op {
		return op{Kind: "lseek", S: g.slot(), Off: g.offset(), Flags: pick(g, unix.SEEK_SET, unix.SEEK_SET, unix.SEEK_CUR, unix.SEEK_END, 9)}
	}},
	{20, func(g *generator) op {
		return op{Kind: "seekmap", S: g.slot(), Off: g.offset(), Flags: pick(g, unix.SEEK_DATA, unix.SEEK_HOLE)}
	}},
	{15, func(g *generator) op { return op{Kind: "truncate", P: g.path(), Off: g.offset()} }},
	{30, func(g *generator) op { return op{Kind: "ftruncate", S: g.slot(), Off: g.offset()} }},
	{35, func(g *generator) op {
		keep, punch := unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE
		return op{Kind: "fallocate", S: g.slot(), Off: g.offset(), Len: pick(g, g.size(), g.size(), g.size(), g.offset()),
			Flags: pick(g, 0, 0, keep, keep, keep|punch, keep|punch, keep|punch, punch, unix.FALLOC_FL_ZERO_RANGE,
				unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE, 1<<10)}
	}},
	{12, func(g *generator) op {
		return op{Kind: "copy_file_range", S: g.slot(), T: g.slot(), Off: g.offset(), Len: g.size(), Mode: uint32(g.IntN(100_000)), Flags: g.flags(0.02, 1)}
	}},
	{6, func(g *generator) op {
		return op{Kind: "sendfile", S: g.slot(), T: g.slot(), Off: g.offset(), Len: g.size()}
	}},
	{5, func(g *generator) op { return op{Kind: "fsync", S: g.slot()} }},
	{5, func(g *generator) op { return op{Kind: "fdatasync", S: g.slot()} }},
	{2, func(g *generator) op { return op{Kind: "sync_file_range", S: g.slot(), Len: 4096, Flags: g.IntN(8)} }},

	{20, func(g *generator) op { return op{Kind: "mkdir", P: g.path(), Mode: g.mode()} }},
	{12, func(g *generator) op { return op{Kind: "rmdir", P: g.path()} }},
	{30, func(g *generator) op { return op{Kind: "unlink", P: g.path()} }},
	{45, func(g *generator) op {
		return op{Kind: "rename", P: g.path(), Q: g.path(), Flags: pick(g, 0, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE,
			unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT, unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE, unix.RENAME_NOREPLACE|unix.RENAME_WHITEOUT, 1<<7)}
	}},
	{25, func(g *generator) op {
		return op{Kind: "link", P: g.path(), Q: g.path(), Flags: pick(g, 0, 0, unix.AT_SYMLINK_FOLLOW)}
	}},
	{12, func(g *generator) op { // what an O_TMPFILE becomes, and an unlinked file does not
		return op{Kind: "link", P: "@" + string(rune('0'+g.slot())), Q: g.path(), Flags: unix.AT_SYMLINK_FOLLOW}
	}},
	{14, func(g *generator) op { return op{Kind: "symlink", P: g.path(), Name: g.target()} }},
	{10, func(g *generator) op { return op{Kind: "readlink", P: g.path(), Len: pick(g, int64(4096), 4096, 3, 0)} }},
	{10, func(g *generator) op {
		kind := pick(g, unix.S_IFIFO, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG, 0, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFDIR, unix.S_IFLNK)
		dev := 0
		if kind == unix.S_IFCHR && g.IntN(2) == 0 {
			dev = int(unix.Mkdev(1, 3))
		}
		return op{Kind: "mknod", P: g.path(), Mode: uint32(kind) | g.mode(), Flags: dev}
	}},

	{20, func(g *generator) op { return op{Kind: "chmod", P: g.path(), Mode: g.mode()} }},
	{8, func(g *generator) op { return op{Kind: "fchmod", S: g.slot(), Mode: g.mode()} }},
	{16, func(g *generator) op {
		return op{Kind: pick(g, "chown", "lchown"), P: g.path(), UID: g.id(), GID: g.id()}
	}},
	{6, func(g *generator) op { return op{Kind: "fchown", S: g.slot(), UID: g.id(), GID: g.id()} }},
	{20, func(g *generator) op {
		return op{Kind: "utimens", P: g.path(), Off: pick(g, int64(0), 1, 1_000_000_000, -5, 1<<33, g.Int64N(1<<31)),
			Len: int64(g.IntN(16)), Seed: g.Uint64N(1e9), Flags: pick(g, 0, unix.AT_SYMLINK_NOFOLLOW)}
	}},
	{2, func(g *generator) op { return op{Kind: "umask", Mode: pick(g, uint32(0o022), 0o022, 0, 0o077, 0o777)} }},
	{12, func(g *generator) op { return op{Kind: pick(g, "stat", "lstat"), P: g.path()} }},
	{8, func(g *generator) op { return op{Kind: "fstat", S: g.slot()} }},
	{8, func(g *generator) op {
		return op{Kind: "access", P: g.path(), Mode: uint32(g.IntN(8)), Flags: pick(g, 0, unix.AT_EACCESS, unix.AT_SYMLINK_NOFOLLOW)}
	}},
	{2, func(g *generator) op { return op{Kind: "statfs", P: g.path()} }},

	{16, func(g *generator) op {
		return op{Kind: pick(g, "setxattr", "lsetxattr"), P: g.path(), Name: g.xattr(), Len: g.xattrSize(), Seed: g.Uint64(),
			Flags: pick(g, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE, 3)}
	}},
	{6, func(g *generator) op {
		return op{Kind: "fsetxattr", S: g.slot(), Name: g.xattr(), Len: g.xattrSize(), Seed: g.Uint64(), Flags: pick(g, 0, 0, 1, 2)}
	}},
	{10, func(g *generator) op {
		return op{Kind: "getxattr", P: g.path(), Name: g.xattr(), Len: pick(g, int64(0), 1, 300, 65536, 70000)}
	}},
	{4, func(g *generator) op {
		return op{Kind: "fgetxattr", S: g.slot(), Name: g.xattr(), Len: pick(g, int64(0), 1, 300, 65536)}
	}},
	{6, func(g *generator) op {
		return op{Kind: "listxattr", P: g.path(), Len: pick(g, int64(0), 1, 300, 65536)}
	}},
	{6, func(g *generator) op { return op{Kind: "removexattr", P: g.path(), Name: g.xattr()} }},

	{8, func(g *generator) op {
		return op{Kind: "flock", S: g.slot(), Flags: pick(g, unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN)}
	}},
	{8, func(g *generator) op {
		return op{Kind: pick(g, "ofdlock", "ofdlock", "ofdgetlock", "posixlock"), S: g.slot(), Off: pick(g, int64(0), 100, 1<<30, 1<<40),
			Len: pick(g, int64(0), 1, 100), Flags: pick(g, unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK)}
	}},

	{30, func(g *generator) op {
		return op{Kind: "getdents", S: g.slot(), Len: pick(g, int64(1100), 1100, 1500, 5000, 32768)}
	}},
	{6, func(g *generator) op { return op{Kind: "seekdir", S: g.slot(), Off: int64(g.IntN(1001))} }},

	{14, func(g *generator) op {
		return op{Kind: "mmap", S: g.slot(), M: g.IntN(mapSlots), Off: 4096 * g.Int64N(5), Len: 1 + g.Int64N(40_000),
			Mode:  uint32(pick(g, unix.PROT_READ, unix.PROT_READ|unix.PROT_WRITE, unix.PROT_READ|unix.PROT_WRITE, unix.PROT_WRITE)),
			Flags: pick(g, unix.MAP_SHARED, unix.MAP_SHARED, unix.MAP_PRIVATE)}
	}},
	{16, func(g *generator) op {
		return op{Kind: "mread", M: g.IntN(mapSlots), Off: g.Int64N(30_000), Len: g.Int64N(20_000)}
	}},
	{16, func(g *generator) op {
		return op{Kind: "mwrite", M: g.IntN(mapSlots), Off: g.Int64N(30_000), Len: g.Int64N(20_000), Seed: g.Uint64()}
	}},
	{6, func(g *generator) op {
		return op{Kind: "msync", M: g.IntN(mapSlots), Flags: pick(g, unix.MS_SYNC, unix.MS_ASYNC, unix.MS_INVALIDATE, unix.MS_SYNC|unix.MS_INVALIDATE)}
	}},
	{8, func(g *generator) op { return op{Kind: "munmap", M: g.IntN(mapSlots)} }},
}

func (g *generator) id() int { return pick(g, -1, -1, 0, 0, 1000, 1001, 2000, 65534, 1<<31) }

var recipeWeights = func() (sum int) {
	for _, r := range recipes {
		sum += r.weight
	}
	return sum
}()

func (g *generator) op() op {
	n := g.IntN(recipeWeights)
	for _, r := range recipes {
		if n -= r.weight; n < 0 {
			o := r.make(g)
			switch o.Kind {
			case "read", "pread", "readv", "sendfile":
				o.Len = max(o.Len, 1) // of a read of nothing no FUSE server is told
			}
			if g.IntN(5) == 0 {
				o.Probe = 1 + g.IntN(3)
			}
			if g.users > 0 {
				o.Who = g.IntN(g.users)
				o.avoid()
			}
			return g.without.of(o)
		}
	}
	panic("internal error: weights")
}

// avoid keeps clear of what several users see on FUSE alone, by the table of
// deviations: the kernel does not ask who owns the file in chown(-1, -1), takes
// set-id bits away before it is told that fallocate is refused, be it for room,
// and does not tell of supplementary groups, which decide over set-group-id
// without group execute.
//
// Mappings and prepared space blur what stat tells, and only who made them
// knows of which files: they are left to TestModel.
func (o *op) avoid() {
	switch o.Kind {
	case "mmap", "seekmap":
		o.Kind = "fstat"
	case "chown", "lchown", "fchown":
		if o.UID == -1 && o.GID == -1 {
			o.GID = 2000
		}
	case "fallocate":
		o.Flags &= unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE
		o.Off, o.Len = o.Off%(1<<20), o.Len%(1<<20)
	case "open", "openat2", "tmpfile", "mknod":
		o.Mode &^= unix.S_ISGID
	case "chmod", "fchmod":
		if o.Mode&unix.S_IXGRP == 0 {
			o.Mode &^= unix.S_ISGID
		}
	}
}

func (g *generator) sequence(n int) []op {
	ops := make([]op, n)
	for i := range ops {
		ops[i] = g.op()
	}
	return ops
}
