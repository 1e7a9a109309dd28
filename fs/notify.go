package fs

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// Notice is something that the kernel is to forget: a name, or the pages and
// attributes of an inode, or of all inodes below a number.
type Notice struct {
	Parent uint64 `json:"parent,omitempty"` // of Name
	Name   []byte `json:"name,omitempty"`
	Ino    uint64 `json:"ino,omitempty"`
	Below  uint64 `json:"below,omitempty"`
}

// maxBelow bounds the numbers that a Notice is about: no session makes as many files.
const maxBelow = 1 << 32

// Valid says whether a server can have sent it: it is about one thing that can be.
func (n Notice) Valid() bool {
	switch {
	case len(n.Name) > 0:
		return n.Parent != 0 && n.Ino == 0 && n.Below == 0 && len(n.Name) <= maxName && !bytes.ContainsAny(n.Name, "/\x00")
	case n.Ino != 0:
		return n.Parent == 0 && n.Below == 0
	}
	return n.Parent == 0 && n.Below != 0 && n.Below <= maxBelow
}

// Notifier tells the kernel. Writing a notice can block: invalidating pages
// waits until page faults and dirty pages have been answered, invalidating a
// name for the lock of its directory. A thread that waits so cannot even be
// killed. So it belongs into a process that need not end for the requests to be
// answered, and it holds no lock meanwhile.
type Notifier struct {
	fuse int
	most int // notices that may wait, of either kind
	logf func(format string, args ...any)

	mu      sync.Mutex
	changed *sync.Cond // something to do, or nothing left
	inodes  map[uint64]struct{}
	names   []Notice
	from    uint64 // and on, up to below
	below   uint64
	busy    bool
	held    bool
}

// NewNotifier starts one for a connection of a filesystem of so many inodes at most. A
// wipe has a notice or two for each, which all wait while the kernel takes none; four
// times as many leave room for names that are links.
func NewNotifier(fuseFD, inodes int, logf func(format string, args ...any)) *Notifier {
	n := &Notifier{fuse: fuseFD, most: 4*inodes + 1024, logf: logf, inodes: make(map[uint64]struct{})}
	n.changed = sync.NewCond(&n.mu)
	go n.run()
	return n
}

// Add queues notices. It never waits, and is false if more wait than can be. Names are
// its own from then on: they are zeroed once they are told.
func (n *Notifier) Add(list ...Notice) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, notice := range list {
		switch {
		case len(notice.Name) > 0:
			n.names = append(n.names, notice)
		case notice.Ino != 0:
			n.inodes[notice.Ino] = struct{}{}
		}
		if notice.Below > 0 {
			n.from, n.below = rootIno, max(n.below, notice.Below)
		}
	}
	n.changed.Broadcast()
	return len(n.names) <= n.most && len(n.inodes) <= n.most
}

// Hold lets nothing more be written, and says whether that came to be within
// limit: then no thread waits for the kernel. Otherwise all is as before.
func (n *Notifier) Hold(limit time.Duration) bool {
	return n.await(limit, func() bool { n.held = !n.busy; return n.held })
}

// Release undoes Hold.
func (n *Notifier) Release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = false
	n.changed.Broadcast()
}

// Settle waits until the kernel has taken every notice given so far, but not
// longer than limit, and says whether it has.
func (n *Notifier) Settle(limit time.Duration) bool {
	return n.await(limit, func() bool { return !n.busy && !n.pending() })
}

// await waits for a condition under mu.
func (n *Notifier) await(limit time.Duration, condition func() bool) bool {
	expired := false
	timer := time.AfterFunc(limit, func() {
		n.mu.Lock()
		expired = true
		n.mu.Unlock()
		n.changed.Broadcast()
	})
	defer timer.Stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for !condition() {
		if expired {
			return false
		}
		n.changed.Wait()
	}
	return true
}

func (n *Notifier) pending() bool { return len(n.inodes)+len(n.names) > 0 || n.below != 0 }

const numbersAtOnce = 4096

func (n *Notifier) run() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if n.busy = false; n.held || !n.pending() {
			n.changed.Broadcast()
			n.changed.Wait()
			continue
		}
		// A few numbers at a time: names shall not wait for millions of them.
		names, inodes, from, below := n.names, maps.Clone(n.inodes), n.from, min(n.below, n.from+numbersAtOnce)
		n.names = nil
		clear(n.inodes)
		if n.from = below; below == n.below {
			n.below = 0
		}
		n.busy = true
		n.mu.Unlock()
		// Names first: until then a path may still lead to an old inode.
		for _, e := range names {
			n.sendName(e)
			clear(e.Name)
		}
		for _, ino := range slices.Sorted(maps.Keys(inodes)) {
			n.sendInode(ino)
		}
		for ino := from; ino < below; ino++ {
			n.sendInode(ino)
		}
		n.mu.Lock()
	}
}

func (n *Notifier) sendInode(ino uint64) {
	b := make([]byte, outHeaderSize+sizeOf[fuse.NotifyInvalInodeOut]())
	*as[fuse.NotifyInvalInodeOut](b[outHeaderSize:]) = fuse.NotifyInvalInodeOut{Ino: ino}
	n.send(notifyInvalInode, b)
}

func (n *Notifier) sendName(e Notice) {
	size := sizeOf[fuse.NotifyInvalEntryOut]()
	b := make([]byte, outHeaderSize+size+len(e.Name)+1)
	*as[fuse.NotifyInvalEntryOut](b[outHeaderSize:]) = fuse.NotifyInvalEntryOut{Parent: e.Parent, NameLen: uint32(len(e.Name))}
	copy(b[outHeaderSize+size:], e.Name)
	n.send(notifyInvalEntry, b)
	clear(b)
}

// send writes a notice: a reply to nothing, with the code in place of an error.
func (n *Notifier) send(code int32, b []byte) {
	*as[fuse.OutHeader](b) = fuse.OutHeader{Length: uint32(len(b)), Status: code}
	_, err := unix.Write(n.fuse, b)
	switch err {
	case nil, unix.ENOENT, unix.ENODEV, unix.ENOTDIR, unix.ENOTEMPTY: // the kernel does not have it, or any more
	default:
		n.logf("telling the kernel to forget (notice %d): %v", code, err)
	}
}

// What a server has to say when it takes over: its predecessor may have died
// with notices unsaid.

// oweNotices notes before a wipe that everything so far is to be forgotten.
func (s *Server) oweNotices() {
	atomic.StoreUint64(as[uint64](s.mem.Slots()[owedNotices:]), s.nextIno)
}

// OweNotices does so from outside, with no server running.
func OweNotices(slots []byte) {
	atomic.StoreUint64(as[uint64](slots[owedNotices:]), atomic.LoadUint64(as[uint64](slots[savedNextIno:])))
}

// NoticesSettled notes, in the memory that processes share, that the kernel has
// taken all notices.
func NoticesSettled(slots []byte) { atomic.StoreUint64(as[uint64](slots[owedNotices:]), 0) }

// markMapped notes that the page cache may have pages of n, for this process and
// the next: the bit is the number's, modulo their count. It is never taken back,
// so that in the long run a few files are asked about in vain.
func (s *Server) markMapped(n *inode) {
	if !n.mapped {
		n.mapped = true
		s.mem.Slots()[savedMapped+n.ino/8%mappedBytes] |= 1 << (n.ino % 8)
	}
}

func (s *Server) wasMapped(ino uint64) bool {
	return s.mem.Slots()[savedMapped+ino/8%mappedBytes]&(1<<(ino%8)) != 0
}

// renotify drops the pages of all files that may have any, and everything that
// a wipe has destroyed.
func (s *Server) renotify() {
	if owed := atomic.LoadUint64(as[uint64](s.mem.Slots()[owedNotices:])); owed != 0 {
		s.notify(Notice{Below: owed})
		atomic.StoreUint64(as[uint64](s.mem.Slots()[staleNames:]), owed)
	}
	for ino, n := range s.inodes {
		if n.mapped && n.isRegular() && n.lookups > 0 {
			s.notify(Notice{Ino: ino})
		}
	}
}

func (s *Server) notify(n Notice) {
	if s.cfg.Notify != nil {
		s.cfg.Notify(n)
	}
}
