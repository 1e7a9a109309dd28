package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A workload is an operation that clients repeat. prepare makes what it needs
// and may find it there already; run does it once, and records a time for each
// of its series.
type workload struct {
	name    string
	series  []series
	clients int // processes at once
	prepare func(*client)
	run     func(*client)
}

// A series is one line of the table.
type series struct {
	name, title string
	bar         bars
}

// bars are what the ratio to a rival may be at most; 0: nothing was promised.
type bars struct{ gocryptfs, loopback, floor float64 }

var (
	loadBar = bars{0.7, 1.0, 1.2}
	saveBar = bars{0.5, 0.8, 1.2}
	bulkBar = bars{gocryptfs: 1.0}
)

const (
	cacheSize = 32 << 10 // of most workloads: a few accounts
	bulkSize  = 32 << 20
	bulkIO    = 128 << 10
	listed    = 100 // files in the directory that is listed
)

var workloads = []*workload{
	one("stat", "stat of a file", bars{}, prepareCache(200), statOnce),
	one("load-200", "load of 200 bytes", loadBar, prepareCache(200), load),
	one("load-32K", "load of 32 KiB", loadBar, prepareCache(32<<10), load),
	one("load-1M", "load of 1 MiB", loadBar, prepareCache(1<<20), load),
	one("save", "save of 32 KiB in place", saveBar, prepareCache(cacheSize), save),
	one("locked", "lock file, load, save, unlock", saveBar, prepareLocked, locked),
	one("rename", "save by temporary file, fsync, rename", saveBar, prepareRenamed, renamed),
	one("list", "list and stat 100 files", saveBar, prepareListed, list),
	atOnce(4), atOnce(8),
	{name: "bulk", clients: 1, series: []series{
		{"bulk-write", "32 MiB written", bulkBar}, {"bulk-read", "32 MiB read", bulkBar},
	}, prepare: prepareBulk, run: bulk},
	one("login", "file accesses of an az login", bars{}, prepareLogin, login),
}

func one(name, title string, bar bars, prepare, run func(*client)) *workload {
	return &workload{name: name, series: []series{{name, title, bar}}, clients: 1, prepare: prepare,
		run: func(c *client) {
			start := clock()
			run(c)
			c.lap(0, start)
		}}
}

func atOnce(n int) *workload {
	name := fmt.Sprintf("%dx", n)
	return &workload{name: name, clients: n, series: []series{
		{name + "-load", fmt.Sprintf("load of 32 KiB, %d processes", n), loadBar},
		{name + "-save", fmt.Sprintf("save of 32 KiB, %d processes", n), saveBar},
	}, prepare: prepareShared, run: loadAndSave}
}

func findWorkload(name string) *workload {
	for _, w := range workloads {
		if w.name == name {
			return w
		}
	}
	return nil
}

// cache is the state of most workloads.
type cache struct {
	path, lock, tmp file
	size            int
	st              unix.Stat_t
}

// make makes a directory of the client's own and the cache in it.
func (c *client) make(name string, size int) *cache {
	dir := c.directory(name)
	f := &cache{path: path(dir + "/msal_token_cache.json"), lock: path(dir + "/msal_token_cache.json.lockfile"),
		tmp: path(dir + "/msal_token_cache.json.tmp"), size: size}
	saveTo(f.path, c.buf[:size], 0)
	c.state = f
	return f
}

func (c *client) directory(name string) string {
	dir := c.dir + "/" + name
	if errno := mkdir(path(dir)); errno != 0 && errno != unix.EEXIST {
		die("mkdir", errno)
	}
	return dir
}

func prepareCache(size int) func(*client) {
	return func(c *client) { c.make(fmt.Sprintf("cache-%d-%d", size, c.n), size) }
}

func statOnce(c *client) {
	f := c.state.(*cache)
	mustStat(f.path, &f.st)
}

func load(c *client) {
	f := c.state.(*cache)
	if loadFrom(f.path, c.buf, &f.st) != f.size {
		die("load: short", unix.EIO)
	}
}

// loadFrom reads as Python and Go do: what fstat said and a byte more, until
// there is no more.
func loadFrom(p file, buf []byte, st *unix.Stat_t) (n int) {
	fd := open(p, unix.O_RDONLY, 0)
	fstat(fd, st)
	for {
		got := read(fd, buf[n:st.Size+1])
		if got == 0 {
			break
		}
		n += got
	}
	closeFile(fd)
	return n
}

func save(c *client) {
	f := c.state.(*cache)
	saveTo(f.path, c.buf[:f.size], 0)
}

func saveTo(p file, data []byte, flags int) {
	fd := open(p, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|flags, 0o600)
	write(fd, data)
	closeFile(fd)
}

func prepareLocked(c *client) {
	f := c.make("locked", cacheSize)
	unix.Unlinkat(unix.AT_FDCWD, c.dir+"/locked/msal_token_cache.json.lockfile", 0)
	f.size = cacheSize
}

// locked is one modify() of msal_extensions without portalocker.
func locked(c *client) {
	f := c.state.(*cache)
	lock := open(f.lock, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
	write(lock, c.buf[:20])
	closeFile(lock)
	mustStat(f.path, &f.st)
	load(c)
	saveTo(f.path, c.buf[:f.size], 0)
	unlink(f.lock)
}

func prepareRenamed(c *client) {
	c.make("renamed", cacheSize)
	unix.Unlinkat(unix.AT_FDCWD, c.dir+"/renamed/msal_token_cache.json.tmp", 0)
}

func renamed(c *client) {
	f := c.state.(*cache)
	fd := open(f.tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	write(fd, c.buf[:f.size])
	fsync(fd)
	closeFile(fd)
	rename(f.tmp, f.path)
}

type listing struct {
	dir   file
	files []file
	st    unix.Stat_t
}

func prepareListed(c *client) {
	dir := c.directory("listed")
	l := &listing{dir: path(dir)}
	for i := range listed {
		l.files = append(l.files, path(fmt.Sprintf("%s/account-%03d.json", dir, i)))
		if stat(l.files[i], &l.st) != 0 {
			saveTo(l.files[i], c.buf[:200], 0)
		}
	}
	c.state = l
}

func list(c *client) {
	l := c.state.(*listing)
	fd := open(l.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	n := 0
	for {
		got := getdents(fd, c.buf[:32<<10])
		if got == 0 {
			break
		}
		n += got
	}
	closeFile(fd)
	if n < listed*len("account-000.json") {
		die("getdents: short", unix.EIO)
	}
	for _, f := range l.files {
		mustStat(f, &l.st)
	}
}

// shared is one cache that all load, and one of each client's own to save.
type shared struct {
	all, own file
	st       unix.Stat_t
}

func prepareShared(c *client) {
	dir := c.directory("shared")
	s := &shared{all: path(dir + "/all.json"), own: path(fmt.Sprintf("%s/own-%d.json", dir, c.n))}
	if stat(s.all, &s.st) != 0 || s.st.Size != cacheSize {
		// Others come at the same time: it appears whole.
		tmp := path(fmt.Sprintf("%s/all-%d.tmp", dir, c.n))
		saveTo(tmp, c.buf[:cacheSize], 0)
		rename(tmp, s.all)
	}
	c.state = s
}

func loadAndSave(c *client) {
	s := c.state.(*shared)
	start := clock()
	if loadFrom(s.all, c.buf, &s.st) != cacheSize {
		die("load: short", unix.EIO)
	}
	c.lap(0, start)
	start = clock()
	saveTo(s.own, c.buf[:cacheSize], 0)
	c.lap(1, start)
}

func prepareBulk(c *client) { c.make("bulk", bulkIO) }

func bulk(c *client) {
	f := c.state.(*cache)
	start := clock()
	fd := open(f.path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	for range bulkSize / bulkIO {
		write(fd, c.buf[:bulkIO])
	}
	closeFile(fd)
	c.lap(0, start)
	start = clock()
	fd = open(f.path, unix.O_RDONLY, 0)
	for n := 0; n < bulkSize; {
		got := read(fd, c.buf[:bulkIO])
		if got == 0 {
			die("read: short", unix.EIO)
		}
		n += got
	}
	closeFile(fd)
	c.lap(1, start)
	unlink(f.path) // others need the memory, too
}
