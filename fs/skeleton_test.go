package fs

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var someFolders = []Folder{
	{Path: "azure", Mode: 0o750, Outside: "/home/u/.azure.kept", Links: []string{"bin", "config"}},
	{Path: "kube/cache", Mode: 0o700},
}

// tree lists what there is: directories with their modes, links with targets.
func (b *bench) tree() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var walk func(prefix string, p *inode)
	walk = func(prefix string, p *inode) {
		for name, e := range p.dir.names {
			n := b.inodes[e.ino]
			switch {
			case n.isDir():
				list = append(list, prefix+name+"/")
				walk(prefix+name+"/", n)
			case n.isSymlink():
				list = append(list, prefix+name+" -> "+b.targetOf(n))
			default:
				list = append(list, prefix+name)
			}
		}
	}
	walk("", b.inodes[rootIno])
	slices.Sort(list)
	return list
}

func TestSkeleton(t *testing.T) {
	b := newBench(t, 1<<20, 100)
	if err := b.SetSkeleton(someFolders); err != nil {
		t.Fatal(err)
	}
	whole := []string{"azure/", "azure/bin -> /home/u/.azure.kept/bin", "azure/config -> /home/u/.azure.kept/config", "kube/", "kube/cache/"}
	check := func(when string, want []string) {
		t.Helper()
		if got := b.tree(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	check("at first", whole)
	if n := b.inodes[b.inodes[rootIno].dir.get([]byte("azure")).ino]; n.mode != unix.S_IFDIR|0o750 {
		t.Errorf("azure has mode %o", n.mode)
	}

	// What an app put in place of a link stays, until it is wiped.
	erase := func(path string) {
		t.Helper()
		if _, err := b.WipePath(path); err != nil {
			t.Errorf("wipe %s: %v", path, err)
		}
	}
	b.SetSkeleton(nil)
	erase("azure/config")
	create(t, b, "azure", "config")
	create(t, b, "azure", "token")
	b.SetSkeleton(someFolders)
	check("with files", []string{"azure/", "azure/bin -> /home/u/.azure.kept/bin", "azure/config", "azure/token", "kube/", "kube/cache/"})
	erase("azure/token")
	check("after a token was wiped", []string{"azure/", "azure/bin -> /home/u/.azure.kept/bin", "azure/config", "kube/", "kube/cache/"})
	erase("azure/config")
	check("after what had replaced a link was wiped", whole)
	erase("kube")
	check("after the parent of a folder was wiped", whole)
	erase("azure")
	check("after a folder was wiped", whole)
	create(t, b, "kube", "x")
	if err := b.Wipe(); err != nil {
		t.Fatal(err)
	}
	check("after everything was wiped", whole)

	// A successor finds it in the log, or makes it.
	again := newServer(b.fuse, b.mem, Config{Quota: 1 << 20, Inodes: 100, Logf: t.Logf})
	defer again.Close()
	again.quietly(func() {
		again.mu.Lock()
		defer again.mu.Unlock()
		if err := again.load(); err != nil {
			t.Error(err)
		}
	})
	check("in a successor", (&bench{Server: again}).tree())
	b.SetSkeleton(nil)
	erase("azure")
	again.cfg.Skeleton = someFolders
	again.quietly(func() {
		again.mu.Lock()
		defer again.mu.Unlock()
		if err := again.load(); err != nil {
			t.Error(err)
		}
	})
	b.Server = again
	check("in one that came after a crash", whole)
}

// create makes a file at the path dir/name.
func create(t *testing.T, b *bench, dir, name string) {
	t.Helper()
	p := b.inodes[rootIno].dir.get([]byte(dir))
	b.send(opCreate, p.ino, u32(unix.O_WRONLY|unix.O_CREAT, 0o600, 0, 0), []byte(name+"\x00"))
	if errno := b.call(); errno != 0 {
		t.Fatalf("create %s/%s: %v", dir, name, errno)
	}
}

func TestSkeletonInTheWay(t *testing.T) {
	b := newBench(t, 1<<20, 5)
	if err := b.SetSkeleton(someFolders); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("too few inodes: %v", err)
	}
	for _, f := range []Folder{
		{Path: ""}, {Path: "."}, {Path: "/x"}, {Path: ".."}, {Path: "../x"}, {Path: "x/../y"}, {Path: "x//y"},
		{Path: "x\x00"}, {Path: "x\xff"}, {Path: strings.Repeat("x", 256)}, {Path: "x", Mode: 0o4700},
		{Path: "x", Outside: "relative", Links: []string{"l"}}, {Path: "x", Outside: "/x", Links: []string{"a/b"}},
		{Path: "x", Outside: "/x", Links: []string{".."}}, {Path: "x", Outside: "/" + strings.Repeat("x", 4000), Links: []string{"l"}},
	} {
		if err := b.SetSkeleton([]Folder{f}); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
}
