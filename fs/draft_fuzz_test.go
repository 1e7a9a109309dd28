package fs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// draftModel says in bytes what draft.go does with inodes and a log: what each
// process finds in which file.
type draftModel struct {
	held   map[uint64][]byte // by the file's node
	drafts []*modelDraft     // in the order in which they were begun
	fresh  map[uint64]bool   // handles through which nothing was done
}

type modelDraft struct {
	node, fh uint64
	data     []byte
	begunBy  uint32
	owner    uint32 // who wrote last; 0: nothing was
}

func (m *draftModel) draft(node, fh uint64) *modelDraft {
	for _, d := range m.drafts {
		if d.node == node && d.fh == fh {
			return d
		}
	}
	return nil
}

func (m *draftModel) commit(d *modelDraft) {
	m.held[d.node] = d.data
	m.drop(d)
}

func (m *draftModel) drop(d *modelDraft) {
	m.drafts = slices.DeleteFunc(m.drafts, func(other *modelDraft) bool { return other == d })
}

func (m *draftModel) settle(node uint64) {
	for i := len(m.drafts) - 1; i >= 0; i-- {
		if d := m.drafts[i]; d.node == node {
			m.commit(d)
			m.drafts = slices.DeleteFunc(m.drafts, func(other *modelDraft) bool { return other.node == node })
			return
		}
	}
}

// seenBy is what a process finds that opens the file and reads it.
func (m *draftModel) seenBy(node uint64, process uint32) []byte {
	for i := len(m.drafts) - 1; i >= 0; i-- {
		if d := m.drafts[i]; d.node == node && d.owner == process {
			return d.data
		}
	}
	return m.held[node]
}

// change changes what a handle writes, or the file itself.
func (m *draftModel) change(node, fh uint64, process uint32, f func(data []byte) []byte) {
	if d := m.draft(node, fh); d != nil {
		d.data, d.owner = f(d.data), process
		return
	}
	m.settle(node)
	delete(m.fresh, fh)
	m.held[node] = f(m.held[node])
}

func (m *draftModel) begin(node, fh uint64, process uint32) {
	delete(m.fresh, fh)
	m.drafts = append(m.drafts, &modelDraft{node: node, fh: fh, begunBy: process})
}

func resized(data []byte, size int) []byte {
	grown := make([]byte, size)
	copy(grown, data)
	return grown
}

// FuzzDrafts has processes open, write, read, cut and close two files through handles
// of their own, of others, of the other file and of nobody, while workers come and
// go. Everybody finds what the model says.
func FuzzDrafts(f *testing.F) {
	rng := rand.New(rand.NewPCG(15, 0))
	for range 60 {
		steps := make([]byte, 4*60)
		for i := range steps {
			steps[i] = byte(rng.Uint32())
		}
		f.Add(steps)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 4*200 {
			return
		}
		b := newBench(t, 8<<20, 64)
		b.answers(t, everyone)
		processes := []uint32{saver, loader, child}
		nodes := []uint64{b.createFile(t, "a"), b.createFile(t, "b")}
		m := &draftModel{held: map[uint64][]byte{}, fresh: map[uint64]bool{}}
		for _, node := range nodes {
			b.must(t, "write", b.writeAt(node, 0, before))
			m.held[node] = before
		}
		type handle struct{ node, fh uint64 }
		nobodys := []uint64{0, 1, 1 << 40, ^uint64(0)} // never given out
		var handles []handle
		appends := map[uint64]bool{}
		var said []string
		for i := 0; i+4 <= len(steps); i += 4 {
			op, node, fh := steps[i]%12, nodes[steps[i+1]%2], nobodys[steps[i+2]%4]
			process, arg := processes[int(steps[i+1]>>1)%3], int(steps[i+3])
			if pick := int(steps[i+2]); pick < 240 && len(handles) > 0 { // one of the last
				h := handles[len(handles)-1-pick%min(len(handles), 5)]
				if fh = h.fh; pick < 200 {
					node = h.node
				}
			}
			b.as(process)
			said = append(said, fmt.Sprintf("%d: operation %d by %d on node %d, handle %d, %d", i/4, op, process-saver, node, fh, arg))
			switch op {
			case 0, 1: // a save begins
				flags := uint32(unix.O_WRONLY | unix.O_TRUNC)
				if op == 1 {
					flags = unix.O_RDWR | unix.O_TRUNC
				}
				fh := b.open(t, node, flags)
				handles = append(handles, handle{node, fh})
				if len(m.held[node]) > 0 {
					m.begin(node, fh, process)
				} else {
					m.settle(node)
					m.held[node] = nil
				}
			case 2:
				fh := b.open(t, node, unix.O_RDWR)
				handles = append(handles, handle{node, fh})
				m.fresh[fh] = true
			case 3:
				fh := b.open(t, node, unix.O_WRONLY|unix.O_APPEND)
				handles = append(handles, handle{node, fh})
				appends[fh] = true
			case 4, 5:
				off, data := arg*40, text(byte('a'+i/4%26), 1+arg*50)
				if appends[fh] {
					b.flags = unix.O_APPEND
				}
				b.must(t, "write", b.writeBy(node, fh, uint64(off), data))
				b.flags = 0
				m.change(node, fh, process, func(old []byte) []byte {
					if appends[fh] {
						off = len(old)
					}
					grown := resized(old, max(len(old), off+len(data)))
					copy(grown[off:], data)
					return grown
				})
			case 6:
				b.must(t, "flush", b.flushBy(node, fh))
				if d := m.draft(node, fh); d != nil && (d.owner != 0 || d.begunBy == process) {
					m.commit(d)
				}
			case 7:
				b.must(t, "release", b.releaseBy(node, fh))
				delete(m.fresh, fh)
				if d := m.draft(node, fh); d != nil {
					m.commit(d)
				}
			case 8:
				b.must(t, "fsync", b.fsyncBy(node, fh))
				if d := m.draft(node, fh); d != nil {
					m.commit(d)
				}
			case 9: // to nothing, or to something
				size := arg / 128 * arg
				b.must(t, "ftruncate", b.truncateBy(node, fh, uint64(size)))
				if m.fresh[fh] && size == 0 && len(m.held[node]) > 0 {
					m.begin(node, fh, process)
					if d := m.draft(node, fh); d != nil {
						d.begunBy, d.owner = process, 0
					}
				} else {
					m.change(node, fh, process, func(old []byte) []byte { return resized(old, size) })
				}
			case 10:
				b.succeed(t)
			case 11:
				if d := m.draft(node, fh); d != nil {
					if got := b.readAll(t, node, fh, 0, 3000); !bytes.Equal(got, d.data) {
						t.Fatalf("through its handle a draft has %d bytes, want %d:\n%q", len(got), len(d.data), said)
					}
				}
			}
			for _, node := range nodes {
				for _, process := range processes {
					b.as(process)
					fh := b.open(t, node, unix.O_RDONLY)
					got, want := b.readAll(t, node, fh, 0, maxIO), m.seenBy(node, process)
					b.must(t, "release", b.releaseBy(node, fh))
					if !bytes.Equal(got, want) {
						t.Fatalf("process %d finds %d bytes %.10q in node %d, want %d %.10q:\n%q", process-saver, len(got), got, node, len(want), want, said)
					}
				}
			}
		}
		if n := b.panics(); n != 0 {
			t.Fatalf("%d panics", n)
		}
		b.succeed(t)
		for _, v := range b.versions.all {
			if v.fh != 0 && m.draft(v.of.ino, v.fh) == nil {
				t.Errorf("a draft by %d is left that nobody has begun", v.fh)
			}
		}
	})
}
