package fs

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

func (b *bench) symlink(t testing.TB, name, target string) uint64 {
	t.Helper()
	b.send(opSymlink, rootIno, nil, cstr(name), cstr(target))
	if errno := b.call(); errno != 0 {
		t.Fatal(errno)
	}
	return b.r.looked
}

func (b *bench) readlink(node uint64) (string, unix.Errno) {
	b.send(opReadlink, node, nil)
	if errno := b.call(); errno != 0 {
		return "", errno
	}
	return string(b.r.reply[outHeaderSize:]), 0
}

// targetOf opens a target. The caller has the lock.
func (b *bench) targetOf(n *inode) string {
	plain := make([]byte, n.target.size())
	if err := b.mem.Arena.OpenInline(n.target.key, n.target.place(), n.target.sealed, plain); err != nil {
		return err.Error()
	}
	return string(plain)
}

// A target is sealed before it is in the index or a record, a successor finds it
// with its key, and the key goes with the link.
func TestTargets(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	targets := map[uint64]string{}
	for _, target := range []string{"t", strings.Repeat("short ", 21), strings.Repeat("long ", 800), strings.Repeat("x", unix.PathMax-1)} {
		node := b.symlink(t, target[:1]+string(rune('a'+len(targets))), target)
		targets[node] = target
		plain := []byte(target)
		if len(plain) > 1 && (bytes.Contains(b.tx.buf[:cap(b.tx.buf)], plain) || bytes.Contains(b.inodes[node].target.sealed, plain)) {
			t.Errorf("a target of %d bytes is not sealed", len(target))
		}
	}
	if err := b.compact(); err != nil {
		t.Fatal(err)
	}
	node := b.symlink(t, "later", "in a record, not in the checkpoint")
	targets[node] = "in a record, not in the checkpoint"
	next := b.attach(t)
	for node, target := range targets {
		if got, errno := next.readlink(node); got != target || errno != 0 {
			t.Errorf("a successor reads %.20q, not %.20q: %v", got, target, errno)
		}
	}
	gone := next.inodes[node].target
	next.send(opUnlink, rootIno, nil, cstr("later"))
	if errno := next.call(); errno != 0 {
		t.Fatal(errno)
	}
	next.send(opForget, node, u64(2))
	next.call()
	if next.inodes[node] != nil {
		t.Fatal("the link is still there")
	}
	if err := next.mem.Arena.OpenInline(gone.key, gone.place(), gone.sealed, make([]byte, 100)); err != crypt.ErrSealed {
		t.Errorf("the key of a target outlives its link: %v", err)
	}
}

// A target that was altered is refused.
func TestAlteredTarget(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	node := b.symlink(t, "link", "somewhere")
	b.inodes[node].target.sealed[20] ^= 1
	if got, errno := b.readlink(node); errno != unix.EIO || got != "" {
		t.Errorf("it reads %q: %v", got, errno)
	}
	if n := b.altered(); n != 1 {
		t.Errorf("%d alterations were counted", n)
	}
}

// Whoever has no key left gets an error, and no link.
func TestNoKeyForATarget(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	for {
		if _, err := b.mem.Keys.New(); err != nil {
			break
		}
	}
	b.send(opSymlink, rootIno, nil, cstr("link"), cstr("somewhere"))
	if errno := b.call(); errno != unix.ENOSPC {
		t.Errorf("the answer is %v", errno)
	}
	if b.usedInodes != 1 || len(b.inodes) != 1 {
		t.Errorf("%d inodes are left", len(b.inodes))
	}
}
