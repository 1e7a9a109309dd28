package fs

// Placeholder while the package is being written: the shape others build on.

import (
	"time"

	"tokenfs/crypt"
)

// Config of a Server.
type Config struct {
	Quota  int64 // bytes; as crypt.MemoryConfig
	Inodes int
	UID    uint32 // owner of the root directory
	GID    uint32
	Logf   func(format string, args ...any) // never given contents, keys or names
}

// Server serves one FUSE connection.
type Server struct{}

// New answers the kernel's INIT on fuseFD and returns a Server ready to Serve.
func New(fuseFD int, mem *crypt.Memory, cfg Config) (*Server, error) { panic("stub") }

// Serve reads and answers requests until the filesystem is unmounted (nil) or
// the connection breaks (an error).
func (s *Server) Serve() error { panic("stub") }

// Wipe destroys every key, empties the tree and starts a fresh session. It
// returns once the keys are gone; the kernel's caches are invalidated behind it.
func (s *Server) Wipe() error { panic("stub") }

// WipePath erases a file or a tree, named relative to the mount's root, and
// says how many files that were. It follows no symlink.
func (s *Server) WipePath(rel string) (files int, err error) { panic("stub") }

// Stop bars requests and destroys the keys, for good: what still arrives gets EIO.
func (s *Server) Stop() { panic("stub") }

// FileInfo names a file and when it was used; never what it holds.
type FileInfo struct {
	Path  string    `json:"path"`
	Size  int64     `json:"size"`
	Mtime time.Time `json:"mtime"`
	Atime time.Time `json:"atime"`
}

// Status is a snapshot of a Server.
type Status struct {
	Files      int        `json:"files"`       // regular files
	Inodes     int        `json:"inodes"`      // used, of every kind
	InodeLimit int        `json:"inode_limit"`
	Bytes      int64      `json:"bytes"`       // used, in blocks of 4 KiB
	Quota      int64      `json:"quota"`
	Largest    []FileInfo `json:"largest"`   // at most 5
	LastUsed   []FileInfo `json:"last_used"` // at most 5
	Protocol   string     `json:"protocol"`  // FUSE protocol spoken, "7.45"
	MmapShared bool       `json:"mmap_shared"` // shared mappings work (Linux >= 6.6)
	ReadOnly   string     `json:"read_only,omitempty"` // why, when degraded
	Panics     uint64     `json:"panics"`
	Arena      int64      `json:"arena"`  // bytes of memory behind the arena
	Wipes      uint64     `json:"wipes"`
}

// Status reports what the server holds.
func (s *Server) Status() Status { panic("stub") }
