package conformance

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// op is one step of the model. A sequence stays valid whatever is left out of
// it: slots may be empty and paths may lead nowhere, on both sides alike.
type op struct {
	Kind  string
	P, Q  string // paths, see side.path
	S, T  int    // slots: descriptors, and for mappings M
	M     int
	Off   int64
	Len   int64
	Flags int
	Mode  uint32
	UID   int
	GID   int
	Name  string // extended attribute
	Seed  uint64 // of what is written
	Probe int    // 0, or which times to set before and look at after
	Who   int    // which user, in the model of several
}

// definition says how an operation runs.
type definition struct {
	run   func(s *side, o op) string
	names bool // changes directory entries
	fds   bool // works on descriptor S
}

// definitions are the operations by name.
var definitions = map[string]*definition{
	// Descriptors.
	"open": {names: true, run: func(s *side, o op) string {
		if len(o.P) == 2 && o.P[0] == '@' {
			o.Flags &^= unix.O_NOFOLLOW // that would be the link in /proc
		}
		fd, err := unix.Open(s.path(o.P), o.Flags|unix.O_NONBLOCK|unix.O_CLOEXEC, o.Mode)
		if err != nil {
			return errName(err)
		}
		s.put(o.S, fd)
		return "ok"
	}},
	"openat2": {names: true, run: func(s *side, o op) string {
		how := unix.OpenHow{Flags: uint64(o.Flags | unix.O_NONBLOCK | unix.O_CLOEXEC), Resolve: o.Seed}
		if o.Flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
			how.Mode = uint64(o.Mode)
		}
		dir, err := unix.Open(s.root, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return errName(err)
		}
		defer unix.Close(dir)
		fd, err := unix.Openat2(dir, o.P, &how)
		if err != nil {
			return errName(err)
		}
		s.put(o.S, fd)
		return "ok"
	}},
	"tmpfile": {run: func(s *side, o op) string {
		fd, err := unix.Open(s.path(o.P), o.Flags|unix.O_TMPFILE|unix.O_CLOEXEC, o.Mode)
		if err != nil {
			return errName(err)
		}
		s.put(o.S, fd)
		return "ok"
	}},
	"dup": {run: func(s *side, o op) string {
		fd, err := unix.FcntlInt(uintptr(s.fd(o.S)), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return errName(err)
		}
		shared := s.fds[o.S].stream
		s.put(o.T, fd)
		s.fds[o.T].stream = shared
		return "ok"
	}},
	"close": {run: func(s *side, o op) string { return errName(s.closeFD(o.S)) }},
	"setfl": {fds: true, run: func(s *side, o op) string {
		_, err := unix.FcntlInt(uintptr(s.fd(o.S)), unix.F_SETFL, o.Flags|unix.O_NONBLOCK)
		return errName(err)
	}},
	"getfl": {fds: true, run: func(s *side, o op) string {
		return ret(unix.FcntlInt(uintptr(s.fd(o.S)), unix.F_GETFL, 0))
	}},

	// Contents.
	"read": {fds: true, run: func(s *side, o op) string {
		buf := s.scratch(o.Len)
		n, err := unix.Read(s.fd(o.S), buf)
		return ret(n, err) + " " + digest(buf)
	}},
	"pread": {fds: true, run: func(s *side, o op) string {
		buf := s.scratch(o.Len)
		n, err := unix.Pread(s.fd(o.S), buf, o.Off)
		return ret(n, err) + " " + digest(buf)
	}},
	"readv": {fds: true, run: func(s *side, o op) string {
		buf := s.scratch(o.Len)
		k := len(buf) / 3
		n, err := unix.Preadv2(s.fd(o.S), [][]byte{buf[:k], buf[k : 2*k], buf[2*k:]}, o.Off, 0)
		return ret(n, err) + " " + digest(buf)
	}},
	"write": {fds: true, run: func(s *side, o op) string {
		return ret(unix.Write(s.fd(o.S), payload(o.Seed, o.Len)))
	}},
	"pwrite": {fds: true, run: func(s *side, o op) string {
		return ret(unix.Pwrite(s.fd(o.S), payload(o.Seed, o.Len), o.Off))
	}},
	"writev": {fds: true, run: func(s *side, o op) string {
		b := payload(o.Seed, o.Len)
		k := len(b) / 3
		return ret(unix.Pwritev2(s.fd(o.S), [][]byte{b[:k], b[k : 2*k], b[2*k:]}, o.Off, o.Flags))
	}},
	"lseek": {fds: true, run: func(s *side, o op) string {
		if s.isDir(o.S) {
			return "" // cookies, which are each filesystem's own
		}
		n, err := unix.Seek(s.fd(o.S), o.Off, o.Flags)
		return ret(int(n), err)
	}},
	"seekmap": {fds: true, run: func(s *side, o op) string { // SEEK_DATA and SEEK_HOLE
		var st unix.Stat_t
		if unix.Fstat(s.fd(o.S), &st) != nil {
			return errName(errNoFD)
		}
		if s.mapped[st.Ino] || s.spare[st.Ino] || st.Size > farOut || s.isDir(o.S) {
			return "" // of a directory the kernel decides, and asks no FUSE server
		}
		n, err := unix.Seek(s.fd(o.S), o.Off, o.Flags)
		return ret(int(n), err)
	}},
	"truncate": {run: func(s *side, o op) string {
		if o.P == "" {
			return "" // some directories have no such operation, all the same
		}
		return errName(unix.Truncate(s.path(o.P), o.Off))
	}},
	"ftruncate": {fds: true, run: func(s *side, o op) string {
		return errName(unix.Ftruncate(s.fd(o.S), o.Off))
	}},
	"fallocate": {fds: true, run: func(s *side, o op) string {
		var st unix.Stat_t
		if unix.Fstat(s.fd(o.S), &st) == nil && o.Flags&unix.FALLOC_FL_PUNCH_HOLE == 0 {
			s.spare[st.Ino] = true
		}
		return errName(unix.Fallocate(s.fd(o.S), uint32(o.Flags), o.Off, o.Len))
	}},
	"copy_file_range": {fds: true, run: func(s *side, o op) string {
		if fl, err := unix.FcntlInt(uintptr(s.fd(o.T)), unix.F_GETFL, 0); err == nil && fl&unix.O_NOATIME != 0 {
			return "" // a server is not told of that flag here
		}
		from, to := o.Off, int64(o.Mode)
		return ret(unix.CopyFileRange(s.fd(o.T), &from, s.fd(o.S), &to, int(o.Len), o.Flags))
	}},
	"sendfile": {fds: true, run: func(s *side, o op) string {
		if s.sameFile(o.S, o.T) {
			return "" // see the table of deviations
		}
		from := o.Off
		return ret(unix.Sendfile(s.fd(o.S), s.fd(o.T), &from, int(o.Len)))
	}},
	"fsync":     {fds: true, run: func(s *side, o op) string { return errName(unix.Fsync(s.fd(o.S))) }},
	"fdatasync": {fds: true, run: func(s *side, o op) string { return errName(unix.Fdatasync(s.fd(o.S))) }},
	"sync_file_range": {fds: true, run: func(s *side, o op) string {
		return errName(unix.SyncFileRange(s.fd(o.S), o.Off, o.Len, o.Flags))
	}},

	// Names.
	"mkdir":  {names: true, run: func(s *side, o op) string { return errName(unix.Mkdir(s.path(o.P), o.Mode)) }},
	"rmdir":  {names: true, run: func(s *side, o op) string { return errName(unix.Rmdir(s.path(o.P))) }},
	"unlink": {names: true, run: func(s *side, o op) string { return errName(unix.Unlink(s.path(o.P))) }},
	"rename": {names: true, run: func(s *side, o op) string {
		return errName(unix.Renameat2(unix.AT_FDCWD, s.path(o.P), unix.AT_FDCWD, s.path(o.Q), uint(o.Flags)))
	}},
	"link": {names: true, run: func(s *side, o op) string {
		return errName(unix.Linkat(unix.AT_FDCWD, s.path(o.P), unix.AT_FDCWD, s.path(o.Q), o.Flags))
	}},
	"symlink": {names: true, run: func(s *side, o op) string { return errName(unix.Symlink(o.Name, s.path(o.P))) }},
	"readlink": {run: func(s *side, o op) string {
		if strings.HasPrefix(o.P, "@") {
			return "" // tells the mountpoint
		}
		buf := s.scratch(o.Len)
		n, err := unix.Readlink(s.path(o.P), buf)
		return ret(n, err) + " " + string(buf[:max(n, 0)])
	}},
	"mknod": {names: true, run: func(s *side, o op) string {
		return errName(unix.Mknod(s.path(o.P), o.Mode, o.Flags))
	}},

	// Attributes.
	"chmod": {run: func(s *side, o op) string { return errName(unix.Chmod(s.path(o.P), o.Mode)) }},
	"fchmod": {fds: true, run: func(s *side, o op) string {
		return errName(unix.Fchmod(s.fd(o.S), o.Mode))
	}},
	"chown":  {run: func(s *side, o op) string { return errName(unix.Chown(s.path(o.P), o.UID, o.GID)) }},
	"lchown": {run: func(s *side, o op) string { return errName(unix.Lchown(s.path(o.P), o.UID, o.GID)) }},
	"fchown": {fds: true, run: func(s *side, o op) string {
		return errName(unix.Fchown(s.fd(o.S), o.UID, o.GID))
	}},
	"utimens": {run: func(s *side, o op) string {
		return errName(unix.UtimesNanoAt(unix.AT_FDCWD, s.path(o.P), o.times(), o.Flags))
	}},
	"umask": {run: func(s *side, o op) string {
		unix.Umask(int(o.Mode))
		return "ok"
	}},
	"stat": {run: func(s *side, o op) string {
		var st unix.Stat_t
		if err := unix.Stat(s.path(o.P), &st); err != nil {
			return errName(err)
		}
		return s.describeStat(&st)
	}},
	"lstat": {run: func(s *side, o op) string {
		var st unix.Stat_t
		if err := unix.Lstat(s.path(o.P), &st); err != nil {
			return errName(err)
		}
		if strings.HasPrefix(o.P, "@") && !strings.Contains(o.P, "/") {
			return "" // the link in /proc
		}
		return s.describeStat(&st)
	}},
	"fstat": {fds: true, run: func(s *side, o op) string {
		var st unix.Stat_t
		if err := unix.Fstat(s.fd(o.S), &st); err != nil {
			return errName(err)
		}
		return s.describeStat(&st)
	}},
	"access": {run: func(s *side, o op) string {
		return errName(unix.Faccessat2(unix.AT_FDCWD, s.path(o.P), o.Mode, o.Flags))
	}},
	"statfs": {run: func(s *side, o op) string {
		var st unix.Statfs_t
		if err := unix.Statfs(s.path(o.P), &st); err != nil {
			return errName(err)
		}
		if st.Bsize != 4096 || st.Namelen != 255 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Ffree > st.Files {
			return fmt.Sprintf("strange: %+v", st)
		}
		return "ok"
	}},

	// Extended attributes.
	"setxattr": {run: func(s *side, o op) string {
		return errName(unix.Setxattr(s.path(o.P), o.Name, payload(o.Seed, o.Len), o.Flags))
	}},
	"lsetxattr": {run: func(s *side, o op) string {
		return errName(unix.Lsetxattr(s.path(o.P), o.Name, payload(o.Seed, o.Len), o.Flags))
	}},
	"fsetxattr": {fds: true, run: func(s *side, o op) string {
		return errName(unix.Fsetxattr(s.fd(o.S), o.Name, payload(o.Seed, o.Len), o.Flags))
	}},
	"getxattr": {run: func(s *side, o op) string {
		buf := s.scratch(o.Len)
		n, err := unix.Lgetxattr(s.path(o.P), o.Name, buf)
		return ret(n, err) + " " + digest(buf)
	}},
	"fgetxattr": {fds: true, run: func(s *side, o op) string {
		buf := s.scratch(o.Len)
		n, err := unix.Fgetxattr(s.fd(o.S), o.Name, buf)
		return ret(n, err) + " " + digest(buf)
	}},
	"listxattr": {run: func(s *side, o op) string {
		n, err := unix.Llistxattr(s.path(o.P), s.scratch(o.Len))
		return ret(n, err)
	}},
	"removexattr": {run: func(s *side, o op) string { return errName(unix.Lremovexattr(s.path(o.P), o.Name)) }},

	// Locks. Those of open file descriptions conflict within one process.
	"flock": {fds: true, run: func(s *side, o op) string {
		return errName(unix.Flock(s.fd(o.S), o.Flags|unix.LOCK_NB))
	}},
	"ofdlock": {fds: true, run: func(s *side, o op) string {
		lk := unix.Flock_t{Type: int16(o.Flags), Start: o.Off, Len: o.Len}
		return errName(unix.FcntlFlock(uintptr(s.fd(o.S)), unix.F_OFD_SETLK, &lk))
	}},
	"ofdgetlock": {fds: true, run: func(s *side, o op) string {
		lk := unix.Flock_t{Type: int16(o.Flags), Start: o.Off, Len: o.Len}
		err := unix.FcntlFlock(uintptr(s.fd(o.S)), unix.F_OFD_GETLK, &lk)
		return fmt.Sprint(errName(err), lk.Type, lk.Start, lk.Len)
	}},
	"posixlock": {fds: true, run: func(s *side, o op) string {
		lk := unix.Flock_t{Type: int16(o.Flags), Start: o.Off, Len: o.Len}
		return errName(unix.FcntlFlock(uintptr(s.fd(o.S)), unix.F_SETLK, &lk))
	}},

	"getdents": {fds: true, run: runGetdents},
	"seekdir":  {fds: true, run: runSeekdir},
	"mmap":     {fds: true, run: runMmap},
	"munmap":   {run: func(s *side, o op) string { return errName(s.unmap(o.M)) }},
	"mread":    {run: runMread},
	"mwrite":   {run: runMwrite},
	"msync":    {run: runMsync},
}

// payload is what an operation writes: never compressible to nothing, the same
// on both sides, and telling where it came from.
func payload(seed uint64, n int64) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		if i%8 == 0 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		b[i] = byte(x>>(i%8*8)) | 1 // no zero, so that a hole never looks like data
	}
	return b
}

// times are those of a utimens: the seed picks NOW and OMIT for each.
func (o op) times() []unix.Timespec {
	ts := []unix.Timespec{{Sec: o.Off, Nsec: int64(o.Seed % 1e9)}, {Sec: o.Off + 77, Nsec: int64(o.Seed / 3 % 1e9)}}
	for i := range ts {
		switch o.Len >> (2 * i) & 3 {
		case 1:
			ts[i].Nsec = unix.UTIME_NOW
		case 2:
			ts[i].Nsec = unix.UTIME_OMIT
		case 3:
			if o.Seed%50 == 0 {
				ts[i].Nsec = 1e9 // EINVAL
			}
		}
	}
	return ts
}

// String is how a counter-example reads.
func (o op) String() string {
	var b strings.Builder
	b.WriteString(o.Kind + "(")
	sep := ""
	add := func(format string, args ...any) {
		b.WriteString(sep)
		fmt.Fprintf(&b, format, args...)
		sep = ", "
	}
	if o.P != "" || !definitions[o.Kind].fds && !strings.HasPrefix(o.Kind, "m") {
		add("%.40q", o.P)
	}
	if o.Q != "" {
		add("%.40q", o.Q)
	}
	if strings.HasPrefix(o.Kind, "m") && o.P == "" {
		add("map%d", o.M)
	}
	if definitions[o.Kind].fds || o.Kind == "open" || o.Kind == "openat2" || o.Kind == "tmpfile" || o.Kind == "dup" || o.Kind == "close" {
		add("fd%d", o.S)
	}
	switch o.Kind {
	case "dup", "copy_file_range", "sendfile":
		add("fd%d", o.T)
	case "open", "openat2", "tmpfile", "setfl":
		add("%s", openFlags(o.Flags))
	case "chown", "lchown", "fchown":
		add("%d:%d", o.UID, o.GID)
	case "utimens":
		add("%v", o.times())
	}
	if o.Name != "" {
		add("%.40q", o.Name)
	}
	if o.Off != 0 {
		add("off=%d", o.Off)
	}
	if o.Len != 0 && o.Kind != "utimens" {
		add("len=%d", o.Len)
	}
	if o.Flags != 0 && !strings.HasPrefix(o.Kind, "open") && o.Kind != "tmpfile" {
		add("flags=%#x", o.Flags)
	}
	if o.Kind == "openat2" {
		add("resolve=%#x", o.Seed)
	}
	if o.Kind == "copy_file_range" {
		add("to=%d", o.Mode)
	} else if o.Mode != 0 {
		add("mode=%#o", o.Mode)
	}
	b.WriteString(")")
	if o.Probe != 0 {
		fmt.Fprintf(&b, " with times set (%d)", o.Probe)
	}
	if o.Who != 0 {
		fmt.Fprintf(&b, " by user %d", o.Who)
	}
	return b.String()
}

func openFlags(flags int) string {
	out := []string{"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"}[flags&3:][:1]
	for _, f := range []struct {
		bit  int
		name string
	}{
		{unix.O_CREAT, "O_CREAT"}, {unix.O_EXCL, "O_EXCL"}, {unix.O_TRUNC, "O_TRUNC"}, {unix.O_APPEND, "O_APPEND"},
		{unix.O_DIRECTORY, "O_DIRECTORY"}, {unix.O_NOFOLLOW, "O_NOFOLLOW"}, {unix.O_NOATIME, "O_NOATIME"},
		{unix.O_DIRECT, "O_DIRECT"}, {unix.O_SYNC, "O_SYNC"}, {unix.O_PATH, "O_PATH"},
	} {
		if flags&f.bit == f.bit {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, "|")
}
