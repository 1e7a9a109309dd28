package fs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// listed is how many files each list of a Status names.
const listed = 5

// FileInfo names a file and when it was used; never what it holds.
type FileInfo struct {
	Path  string    `json:"path"`
	Size  int64     `json:"size"`
	Mtime time.Time `json:"mtime"`
	Atime time.Time `json:"atime"`
}

// Status is a snapshot of a Server.
type Status struct {
	Files      int        `json:"files"`  // regular files
	Inodes     int        `json:"inodes"` // used: files of every kind and further names
	InodeLimit int        `json:"inode_limit"`
	Bytes      int64      `json:"bytes"` // used, in blocks of 4 KiB
	Quota      int64      `json:"quota"`
	Largest    []FileInfo `json:"largest"`
	LastUsed   []FileInfo `json:"last_used"`
	Protocol   string     `json:"protocol"`    // FUSE protocol spoken, such as "7.45"
	MmapShared bool       `json:"mmap_shared"` // shared mappings work (Linux 6.6 or newer)
	ReadOnly   string     `json:"read_only,omitempty"`
	Panics     uint64     `json:"panics"`
	Altered    uint64     `json:"altered"` // times that contents were found altered, and not returned
	Arena      int64      `json:"arena"`   // bytes of memory behind the arena
	Wipes      uint64     `json:"wipes"`   // of everything, since the mount
	Drafts     Drafts     `json:"drafts"`
}

// Drafts are saves, see draft.go.
type Drafts struct {
	On        bool       `json:"on"`        // saves are made in drafts
	Open      []FileInfo `json:"open"`      // of files that are being saved, as they are to others
	Committed uint64     `json:"committed"` // since the mount
	Dropped   uint64     `json:"dropped"`   // because their writers were killed, or had no room
}

// Status reports what the server holds.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Files: s.files, Inodes: s.usedInodes, InodeLimit: s.inodeLimit,
		Bytes: s.usedPages * blockSize, Quota: s.quotaPages * blockSize,
		Protocol:   fmt.Sprintf("%d.%d", protoMajor, s.proto.minor),
		MmapShared: s.proto.mmapShared,
		ReadOnly:   s.readOnly, Panics: s.panics(), Altered: s.altered(), Wipes: s.wipes,
	}
	if s.gone.Load() {
		return st
	}
	st.Arena = s.mem.Status().ArenaBytes
	st.Drafts = Drafts{On: s.cfg.WholeSaves, Committed: s.counted(draftsCommitted), Dropped: s.counted(draftsDropped)}
	saved := s.drafted()
	largest := s.top(func(a, b *inode) int { return cmp.Compare(a.size, b.size) })
	lastUsed := s.top(func(a, b *inode) int { return a.lastUse().Compare(b.lastUse()) })
	paths := s.paths(slices.Concat(largest, lastUsed, saved))
	st.Largest, st.LastUsed, st.Drafts.Open = infos(largest, paths), infos(lastUsed, paths), infos(saved, paths)
	return st
}

// drafted lists the files of which there are drafts.
func (s *Server) drafted() (list []*inode) {
	for _, v := range s.versions.drafts {
		if !slices.Contains(list, v.of) {
			list = append(list, v.of)
		}
	}
	slices.SortFunc(list, func(a, b *inode) int { return cmp.Compare(a.ino, b.ino) })
	return list
}

func (n *inode) lastUse() time.Time {
	if n.atime.before(n.mtime) {
		return n.mtime.time()
	}
	return n.atime.time()
}

// top returns the files that compare highest, highest first.
func (s *Server) top(compare func(a, b *inode) int) []*inode {
	var best []*inode
	for _, n := range s.inodes {
		if !n.isRegular() || n.nlink == 0 {
			continue
		}
		i, _ := slices.BinarySearchFunc(best, n, func(a, b *inode) int {
			return cmp.Or(compare(b, a), cmp.Compare(a.ino, b.ino))
		})
		if i < listed {
			best = slices.Insert(best, i, n)
			best = best[:min(len(best), listed)]
		}
	}
	return best
}

// paths finds one name of each inode.
func (s *Server) paths(nodes []*inode) map[uint64]string {
	type entry struct {
		parent uint64
		name   string
	}
	wanted := make(map[uint64]bool)
	for _, n := range nodes {
		wanted[n.ino] = true
	}
	entries := make(map[uint64]entry) // of the wanted, and of all directories
	for ino, p := range s.inodes {
		if p.dir == nil {
			continue
		}
		for _, e := range p.dir.names {
			if wanted[e.ino] || s.inodes[e.ino].isDir() {
				entries[e.ino] = entry{ino, e.name}
			}
		}
	}
	paths := make(map[uint64]string)
	for ino := range wanted {
		var names []string
		for at := ino; at != rootIno; {
			e, ok := entries[at]
			if !ok {
				break
			}
			names = append(names, e.name)
			at = e.parent
		}
		slices.Reverse(names)
		paths[ino] = strings.Join(names, "/")
	}
	return paths
}

func infos(nodes []*inode, paths map[uint64]string) []FileInfo {
	list := make([]FileInfo, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, FileInfo{Path: paths[n.ino], Size: n.size, Mtime: n.mtime.time(), Atime: n.atime.time()})
	}
	return list
}
