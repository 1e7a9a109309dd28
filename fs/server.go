package fs

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
)

// Config of a Server.
type Config struct {
	Quota      int64 // bytes of contents, a multiple of 4096
	Most       int64 // where rewrites end, which may exceed the quota; 0: nowhere
	Inodes     int   // files, directories and further names together
	UID        uint32
	GID        uint32
	NoAtime    bool                             // mounted noatime: reads stamp nothing
	WholeSaves bool                             // see draft.go
	Logf       func(format string, args ...any) // never given contents, keys or names
	Notify     func(Notice)                     // see Notifier; called under the lock, must not wait

	Skeleton []Folder // what every session begins with
}

// MemoryConfig is the memory that a Server of this size needs.
func MemoryConfig(quota int64, inodes int, secretmem crypt.Secretmem) crypt.MemoryConfig {
	spare := spareFor(inodes)
	const (
		longest  = unix.PathMax + crypt.InlineOverhead  // a sealed target
		perInode = 2*inodeEdit + 64 + maxName + longest // with a name and a symlink target
		perPage  = blockEdit + maxName + 64             // a block, or an attribute of one
	)
	keys := inodes + farKeys(quota)
	return crypt.MemoryConfig{
		Quota: quota, Spare: spare,
		Keys:  keys + 64, // those of versions being replaced
		Meta:  int64(inodes)*perInode + int64(keys)*keyEdit + quota/blockSize*perPage + spare/blockSize*blockEdit,
		Slots: slotsSize, SlotFirst: slotFirstPages(),
		Secretmem: secretmem,
	}
}

// Server serves one FUSE connection.
//
// mu covers the index, the memory and the transaction. Whoever holds it touches
// nothing but memory, so that no request ever waits for another program.
type Server struct {
	fuse    int
	mem     *crypt.Memory
	cfg     Config
	control chan func()   // run by serveControl
	upkeep  chan struct{} // wakes serveUpkeep, and
	upkept  chan struct{} // tells its end
	gone    atomic.Bool   // stopped for good
	over    atomic.Bool   // and nothing is read any more
	busy    [slotCount]atomic.Bool

	mu          mutex
	tx          tx
	inodes      map[uint64]*inode
	nextIno     uint64
	reservedIno uint64 // savedNextIno
	nextVersion uint64
	done        [slotCount]done
	usedInodes  int
	files       int
	usedPages   int64
	quotaPages  int64
	mostPages   int64
	usedTargets int // bytes; see longTarget
	farKeys     int // in use, and
	farLimit    int // how many there are
	inodeLimit  int
	readOnly    string // why, once the log was found damaged
	wipes       uint64
	proto       protocol

	left     [][]uint32  // cells that the upkeep is to zero
	ckpt     *checkpoint // that is being written
	replayed []block     // of an edit, while the log is replayed

	versions  versions
	drafting  atomic.Int32 // how many of them are drafts, for who has no lock
	handles   handles
	tidyTimer *time.Timer
	tidying   bool // tidyTimer runs
	tidyDue   bool
	closed    bool
}

// New answers the kernel's INIT on fuseFD and returns a Server ready to Serve.
// mem is fresh, or another process's whose work is resumed. Call it on a Quiet
// thread: a worker that starts does everything on one, for each change of
// threads is a wait where the machine is busy.
func New(fuseFD int, mem *crypt.Memory, cfg Config) (*Server, error) {
	s := newServer(fuseFD, mem, cfg)
	s.step()
	err := s.negotiate()
	if err != nil {
		return nil, err
	}
	s.step()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, s.load()
}

func newServer(fuseFD int, mem *crypt.Memory, cfg Config) *Server {
	s := &Server{fuse: fuseFD, mem: mem, cfg: cfg, quotaPages: cfg.Quota / blockSize, mostPages: math.MaxInt64, inodeLimit: cfg.Inodes, farLimit: farKeys(cfg.Quota)}
	if cfg.Most > 0 {
		s.mostPages = cfg.Most / blockSize
	}
	s.tx.s = s
	mem.OnStep(s.step)
	s.control = make(chan func())
	s.handles = handlesAt(mem.Slots()[handlesOff:])
	s.tidyTimer = time.AfterFunc(math.MaxInt64, s.onTidyTimer)
	s.versions = newVersions(&s.drafting)
	go s.serveControl()
	s.upkeep, s.upkept = make(chan struct{}, 1), make(chan struct{})
	go s.serveUpkeep(s.upkeep)
	return s
}

// begin makes the empty tree of a new session.
func (s *Server) begin() {
	s.clearIndex()
	s.nextIno = max(s.nextIno, binary.LittleEndian.Uint64(s.mem.Slots()[savedNextIno:]))
	t := now()
	root := &inode{ino: rootIno, mode: unix.S_IFDIR | 0o700, uid: s.cfg.UID, gid: s.cfg.GID, nlink: 2,
		size: 2 * direntCost, atime: t, mtime: t, ctime: t, btime: t, lookups: 1, dir: &dir{parent: rootIno}, data: content{id: rootIno}}
	s.inodes[rootIno] = root
	s.usedInodes = 1
	if s.readOnly != "" { // nothing of a damaged log is written over
		return
	}
	s.tx.next()
	s.tx.put(root)
	s.tx.commit()
}

func (s *Server) clearIndex() {
	s.inodes = make(map[uint64]*inode)
	s.versions = newVersions(&s.drafting)
	s.done = [slotCount]done{}
	// Numbers go on where they were: a node of an earlier session is unknown,
	// never somebody else.
	s.nextIno, s.nextVersion = max(s.nextIno, rootIno+1), max(s.nextVersion, 1)
	s.usedInodes, s.files, s.usedPages, s.usedTargets, s.farKeys = 0, 0, 0, 0, 0
	s.tx.reset()
	s.left = nil // whoever has cleared the index has the cells swept
	s.ckpt = nil // and the log is replayed, or empty
}

// node finds the inode that a path led to. What a wipe destroyed is stale: the
// kernel walks the path again, and asks.
func (s *Server) node(ino uint64) (*inode, unix.Errno) {
	n := s.inodes[ino]
	if n == nil {
		return nil, unix.ESTALE
	}
	return n, 0
}

// nodeOrHandle finds the inode that a path led to, or that of an open file.
// After a wipe only the latter can still ask, unless it was interrupted: then
// names are left that only walking again removes.
func (s *Server) nodeOrHandle(ino uint64) (*inode, unix.Errno) {
	if ino < binary.LittleEndian.Uint64(s.mem.Slots()[staleNames:]) {
		return s.node(ino)
	}
	return s.handle(ino)
}

// handle finds the inode of an open file: there is nothing to walk again.
func (s *Server) handle(ino uint64) (*inode, unix.Errno) {
	n := s.inodes[ino]
	if n == nil {
		return nil, unix.EIO
	}
	return n, 0
}

func (s *Server) logf(format string, args ...any) {
	if s.cfg.Logf != nil {
		s.cfg.Logf(format, args...)
	}
}

// Processors is the GOMAXPROCS to Serve under: one for each serving thread, one
// for everything else and one to spare. While one is idle, the runtime leaves the
// threads that wait for requests theirs; else its monitor takes them away, at
// every request, and looks every 20 µs whether it can.
const Processors = slotCount + 2

// Serve reads and answers requests until the filesystem is unmounted. It calls
// ready, which may be nil, once what a predecessor left behind is served. The
// calling thread is one of those that serve, and Quiet from then on.
func (s *Server) Serve(ready func()) error {
	errs := make(chan error, slotCount)
	var resumed sync.WaitGroup
	resumed.Add(slotCount)
	for i := 1; i < slotCount; i++ {
		go func() { errs <- s.serve(i, resumed.Done) }()
	}
	if ready != nil {
		go func() {
			resumed.Wait()
			atomic.StoreUint32(word32(s.mem.Slots(), servingWord), 1)
			ready()
		}()
	}
	errs <- s.serve(0, resumed.Done)
	var first error
	for range slotCount {
		if err := <-errs; err != nil && first == nil {
			first = fmt.Errorf("serving the filesystem: %w", err)
		}
	}
	return first
}

// Close ends the server's own threads. Serve has returned.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.tidyTimer.Stop()
	close(s.control)
	close(s.upkeep)
	<-s.upkept
}
