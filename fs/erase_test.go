package fs

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// plant makes a tree with so many files of a line and an attribute each below
// "tree", in directories of a hundred, and one file beside it.
func (b *bench) plant(t testing.TB, files int) {
	t.Helper()
	b.pour(t, b.createFile(t, "beside"), 100)
	mkdir := func(parent uint64, name string) uint64 {
		b.send(opMkdir, parent, u32(0o700, 0), cstr(name))
		if errno := b.call(); errno != 0 {
			t.Fatal(errno)
		}
		return b.r.looked
	}
	tree := mkdir(rootIno, "tree")
	dir := tree
	for i := range files {
		if i%100 == 0 {
			dir = mkdir(tree, fmt.Sprint("d", i))
		}
		b.send(opCreate, dir, u32(unix.O_RDWR, unix.S_IFREG|0o600, 0, 0), cstr(fmt.Sprint("f", i)))
		if errno := b.call(); errno != 0 {
			t.Fatal(errno)
		}
		node := b.r.looked
		b.pour(t, node, 10)
		b.send(opSetxattr, node, u32(1, 0), cstr("user.x"), []byte("v"))
		if errno := b.call(); errno != 0 {
			t.Fatal(errno)
		}
	}
}

// All keys of a tree go in one operation, before any name: a process that ends
// in between leaves empty files, or all of them whole.
func TestWipedTreeHasNoKeys(t *testing.T) {
	const files = 3000
	b := newBench(t, 32<<20, 4*files)
	b.plant(t, files)
	tree := b.inodes[rootIno].dir.get([]byte("tree"))
	b.mu.Lock()
	all := b.below(nil, b.inodes[rootIno], tree)
	if n := b.eraseContents(all); n != files {
		t.Errorf("%d files were erased", n)
	}
	b.mu.Unlock()
	next := b.attach(t)
	if next.usedPages != 1 || next.files != files+1 {
		t.Errorf("%d pages are in use by %d files", next.usedPages, next.files)
	}
	for ino, n := range next.inodes {
		if len(n.data.extents) > 0 && n.size != 100 || n.xattrs != nil {
			t.Fatalf("inode %d has a key", ino)
		}
	}
	// Asked again it takes the names, too.
	if n, err := next.WipePath("tree"); err != nil || n != files {
		t.Errorf("wiped %d files, %v", n, err)
	}
	for ino, n := range next.inodes {
		if n.nlink > 0 && ino != rootIno && n.size != 100 {
			t.Fatalf("inode %d is left", ino)
		}
	}
	if got := len(next.inodes[rootIno].dir.names); got != 1 {
		t.Errorf("%d names are left in the root", got)
	}
}

// Requests are served while the names of a tree go; what they make in it stays,
// and what they move out of it is empty.
func TestRequestsWhileATreeIsWiped(t *testing.T) {
	const files = 3000
	b := newBench(t, 32<<20, 4*files)
	b.plant(t, files)
	tree := b.inodes[rootIno].dir.get([]byte("tree")).ino
	first := b.inodes[tree].dir.order[0]
	wiped := make(chan error)
	go func() {
		_, err := b.WipePath("tree")
		wiped <- err
	}()
	between := 0
	made := false
	for done := false; !done; {
		select {
		case err := <-wiped:
			if err != nil {
				t.Error(err)
			}
			done = true
		default:
			b.mu.Lock()
			if n := len(b.inodes[tree].dir.names); n > 0 && n < files/100 {
				between++
				if b.usedPages > 3 { // with that of the file that is made below
					t.Errorf("names go, and %d pages are in use", b.usedPages)
				}
			}
			b.mu.Unlock()
			if between > 0 && !made {
				b.send(opCreate, tree, u32(unix.O_RDWR, unix.S_IFREG|0o600, 0, 0), cstr("new"))
				if made = b.call() == 0; made {
					b.pour(t, b.r.looked, 5)
				}
			}
		}
	}
	if between == 0 {
		t.Error("nobody was let in between")
	}
	if !made {
		t.Fatal("nothing could be made in the tree while it was wiped")
	}
	left := b.inodes[tree]
	if left == nil || len(left.dir.names) != 1 || left.dir.get([]byte("new")) == nil {
		t.Errorf("of the tree %+v is left", left)
	}
	if b.inodes[first.ino] != nil && b.inodes[first.ino].nlink > 0 {
		t.Error("the first directory is left")
	}
	if diff := compare(b.Server, b.attach(t).Server); diff != "" {
		t.Error(diff)
	}
}
