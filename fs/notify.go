package fs

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// notifier tells the kernel to forget what it has cached. Writing a notice can
// block: invalidating pages waits for page faults that we have yet to answer,
// invalidating a name for the lock of its directory. So it is a thread of its
// own, and it never holds the server's lock.
type notifier struct {
	s       *Server
	mu      sync.Mutex
	changed sync.Cond // on mu: something to do, or nothing left
	inodes  map[uint64]struct{}
	entries map[entryNotice]struct{}
	end     uint64 // all inodes below, if not 0
	busy    bool
	stopped bool
}

type entryNotice struct {
	parent uint64
	name   string
}

func newNotifier(s *Server) *notifier {
	n := &notifier{s: s, inodes: make(map[uint64]struct{}), entries: make(map[entryNotice]struct{})}
	n.changed.L = &n.mu
	go n.run()
	return n
}

// inode drops an inode's pages and attributes.
func (n *notifier) inode(ino uint64) {
	n.mu.Lock()
	n.inodes[ino] = struct{}{}
	n.mu.Unlock()
	n.changed.Broadcast()
}

// below drops every inode below end, whichever of them the kernel knows: their
// attributes are asked for again, and then they are found to be gone.
func (n *notifier) below(end uint64) {
	n.mu.Lock()
	n.end = end
	n.mu.Unlock()
	n.changed.Broadcast()
}

// entry drops a name.
func (n *notifier) entry(parent uint64, name string) {
	n.mu.Lock()
	n.entries[entryNotice{parent, name}] = struct{}{}
	n.mu.Unlock()
	n.changed.Broadcast()
}

func (n *notifier) stop() {
	n.mu.Lock()
	n.stopped = true
	n.mu.Unlock()
	n.changed.Broadcast()
}

// settle waits until the kernel has seen every notice given so far, but not
// longer than limit: a mapping that nobody serves could hold one up.
func (n *notifier) settle(limit time.Duration) {
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
	for !expired && !n.stopped && (n.busy || n.pending()) {
		n.changed.Wait()
	}
}

func (n *notifier) pending() bool { return len(n.inodes)+len(n.entries) > 0 || n.end != 0 }

func (n *notifier) run() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for !n.stopped {
		if !n.pending() {
			n.busy = false
			n.changed.Broadcast()
			n.changed.Wait()
			continue
		}
		// Names first: until then a path may still lead to an old inode.
		entries, inodes := n.entries, n.inodes
		end := n.end
		n.entries, n.inodes, n.end = make(map[entryNotice]struct{}), make(map[uint64]struct{}), 0
		n.busy = true
		n.mu.Unlock()
		for e := range entries {
			n.s.sendEntry(e)
		}
		for ino := range inodes {
			n.s.sendInode(ino)
		}
		for ino := uint64(rootIno); ino < end; ino++ {
			n.s.sendInode(ino)
		}
		n.mu.Lock()
	}
}

func (s *Server) sendInode(ino uint64) {
	b := make([]byte, outHeaderSize+sizeOf[fuse.NotifyInvalInodeOut]())
	*as[fuse.NotifyInvalInodeOut](b[outHeaderSize:]) = fuse.NotifyInvalInodeOut{Ino: ino}
	s.send(notifyInvalInode, b)
}

func (s *Server) sendEntry(e entryNotice) {
	size := sizeOf[fuse.NotifyInvalEntryOut]()
	b := make([]byte, outHeaderSize+size+len(e.name)+1)
	*as[fuse.NotifyInvalEntryOut](b[outHeaderSize:]) = fuse.NotifyInvalEntryOut{Parent: e.parent, NameLen: uint32(len(e.name))}
	copy(b[outHeaderSize+size:], e.name)
	s.send(notifyInvalEntry, b)
}

// send writes a notice: a reply to nothing, with the code in place of an error.
func (s *Server) send(code int32, b []byte) {
	*as[fuse.OutHeader](b) = fuse.OutHeader{Length: uint32(len(b)), Status: code}
	_, err := unix.Write(s.fuse, b)
	switch err {
	case nil, unix.ENOENT, unix.ENODEV, unix.ENOTDIR, unix.ENOTEMPTY: // the kernel does not have it, or any more
	default:
		s.logf("telling the kernel to forget (notice %d): %v", code, err)
	}
}
