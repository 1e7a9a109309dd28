package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// Beyond the memory limit of its cgroup a process is not refused memory but
// killed; the next worker would meet the same end, and finally everything be
// given up. So what may be held is kept to what fits beneath: then there is
// ENOSPC instead.

// memoryLimit is the lowest of those that apply to a process.
type memoryLimit struct {
	Bytes int64  `json:"bytes"` // math.MaxInt64: there is none
	Of    string `json:"of"`    // the cgroup that has it
}

type limitFile struct {
	hierarchy, top string
	files          []string
}

func (l memoryLimit) forStatus() int64 {
	if l.Bytes == math.MaxInt64 {
		return -1
	}
	return l.Bytes
}

// limitFiles are where the cgroups of a hierarchy are mounted and what limits
// memory there: at memory.high a process is not killed, but so slow that it
// seems to hang. In the file system of version 2 the hierarchy has no name.
var limitFiles = []limitFile{
	{"", "/sys/fs/cgroup", []string{"memory.max", "memory.high"}},
	{"memory", "/sys/fs/cgroup/memory", []string{"memory.limit_in_bytes"}},
}

// memoryLimitHere reads it for this process.
func memoryLimitHere() (memoryLimit, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return memoryLimit{Bytes: math.MaxInt64}, nil // a kernel without cgroups
	} else if err != nil {
		return memoryLimit{Bytes: math.MaxInt64}, fmt.Errorf("look for a memory limit: %w", err)
	}
	return leastOf(string(groups), limitFiles, os.ReadFile)
}

// keptOutOfSwap says whether a cgroup, as that of the user unit, does so with all
// memory of its processes.
func keptOutOfSwap() bool {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	least, err := leastOf(string(groups), []limitFile{{"", "/sys/fs/cgroup", []string{"memory.swap.max"}}}, os.ReadFile)
	return err == nil && least.Bytes == 0
}

// leastOf goes from the group up to the top. What is not there has no
// limit: the first group of all, and those above a container, which sees them by
// name at most.
func leastOf(groups string, limits []limitFile, read func(string) ([]byte, error)) (least memoryLimit, err error) {
	least.Bytes = math.MaxInt64
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			return least, fmt.Errorf("look for a memory limit: /proc/self/cgroup says %q", line)
		}
		for _, l := range limits {
			if l.hierarchy != fields[1] {
				continue
			}
			for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
				for _, file := range l.files {
					text, err := read(path.Join(l.top, group, file))
					if errors.Is(err, fs.ErrNotExist) {
						continue
					} else if err != nil {
						return least, fmt.Errorf("look for a memory limit: %w", err)
					}
					limit := strings.TrimSpace(string(text))
					if limit == "max" {
						continue
					}
					n, err := strconv.ParseInt(limit, 10, 64)
					if err != nil {
						return least, fmt.Errorf("look for a memory limit: %s in %s: %w", file, group, err)
					}
					// Version 1 says none by a number that no machine has.
					if 0 <= n && n < least.Bytes && n < 1<<62 {
						least = memoryLimit{n, group}
					}
				}
				if group == "/" {
					break
				}
			}
		}
	}
	return least, nil
}

// What a filesystem takes of memory at most, measured with a full one while it is
// upgraded and while its files are renamed again and again, and rounded up.
const (
	// Keeper, worker, and the two pairs of a rehearsal: 14 MiB.
	perFilesystem = 16 << 20
	// In the index, twice that until garbage is collected, and, before it is
	// compacted, three times in the log; with the longest of names.
	perInode = 3 << 10
	// A page of contents with its entries.
	perPage = 4096 + 512
)

const (
	// leastSize and leastInodes are what there is room for whatever the limit is.
	leastSize   = 1 << 20
	leastInodes = 1 << 10
)

// room is what may be held.
type room struct {
	Size   int64 `json:"size"`
	Inodes int   `json:"inodes"`
}

// within makes room fit beneath a limit. Rewritten files may take more than
// Size, as otherwise tokens would be lost to it; a quarter of what there is for
// contents is kept for that, and most is where it ends, too. Zero: nowhere.
func (r room) within(limit int64) (fits room, most int64) {
	if limit == math.MaxInt64 {
		return r, 0
	}
	free := max(limit-perFilesystem, 0)
	forInodes := max(free/2, free-r.Size/4096*perPage)
	fits.Inodes = min(r.Inodes, max(int(forInodes/perInode), leastInodes))
	contents := (free - int64(fits.Inodes)*perInode) / perPage * 4096
	fits.Size = min(r.Size, max(contents/4*3/4096*4096, leastSize))
	return fits, max(contents, fits.Size*4/3/4096*4096)
}

// fitInMemory lowers what was asked for to what the memory limit allows.
func (d *daemon) fitInMemory() (most int64) {
	var err error
	if d.limit, err = memoryLimitHere(); err != nil {
		d.journal.logf("warning: %v", err) // and as if there were none
	}
	d.wanted = room{d.opts.Size, d.opts.Inodes}
	fits, most := d.wanted.within(d.limit.Bytes)
	d.opts.Size, d.opts.Inodes = fits.Size, fits.Inodes
	return most
}

// warnOfMemory tells at the start where that is less.
func (d *daemon) warnOfMemory() {
	if fits := (room{d.opts.Size, d.opts.Inodes}); fits != d.wanted {
		d.journal.logf("warning: there is room for %d KiB and %d inodes only, not for %d KiB and %d: %s has a memory limit of %d KiB: raise that, or lower size and inodes",
			fits.Size>>10, fits.Inodes, d.wanted.Size>>10, d.wanted.Inodes, d.limit.Of, d.limit.Bytes>>10)
	}
}
