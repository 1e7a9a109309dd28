package fs

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

// operation is what is to be known of an opcode before its request is served.
type operation struct {
	serve   func(*Server, *request) unix.Errno
	fixed   int                     // bytes of the request before names or data
	names   int                     // strings that must follow
	changes bool                    // is recorded, also when it fails: it takes effect once
	blocks  int                     // block entries it may change
	before  func(*Server, *request) // without the lock
}

var (
	size0     = inHeaderSize
	perForget = slotRequest / sizeOf[forgetOne]() * (1 + 2*inodeEdit/blockEdit)

	perRekey = extentBlocks // of each extent that it touches
	perIO    = maxIO/blockSize + 1 + 2*perRekey
	perCopy  = copyMax/blockSize + 1 + 2*perRekey
	// A draft that becomes a file's contents, and what becomes a former version.
	perCommit = 2 * draftMost / blockSize
)

// operations is indexed by opcode. What is absent is answered with ENOSYS, and
// the kernel does not ask again: POLL and INTERRUPT go their default way, ACCESS
// is decided by default_permissions.
var operations = [opStatx + 1]operation{
	opLookup:        {serve: (*Server).lookup, fixed: size0, names: 1},
	opGetattr:       {serve: (*Server).getattr, fixed: sizeOf[fuse.GetAttrIn]()},
	opSetattr:       {serve: (*Server).setattr, fixed: sizeOf[fuse.SetAttrInCommon](), changes: true, blocks: perRekey + perCommit},
	opReadlink:      {serve: (*Server).readlink, fixed: size0},
	opSymlink:       {serve: (*Server).symlink, fixed: size0, names: 2, changes: true},
	opMknod:         {serve: (*Server).mknod, fixed: sizeOf[fuse.MknodIn](), names: 1, changes: true},
	opMkdir:         {serve: (*Server).mkdir, fixed: sizeOf[fuse.MkdirIn](), names: 1, changes: true},
	opUnlink:        {serve: (*Server).unlink, fixed: size0, names: 1, changes: true},
	opRmdir:         {serve: (*Server).rmdir, fixed: size0, names: 1, changes: true},
	opRename:        {serve: (*Server).rename, fixed: sizeOf[renameIn](), names: 2, changes: true},
	opRename2:       {serve: (*Server).rename, fixed: sizeOf[fuse.RenameIn](), names: 2, changes: true},
	opLink:          {serve: (*Server).link, fixed: sizeOf[fuse.LinkIn](), names: 1, changes: true},
	opOpen:          {serve: (*Server).openFile, fixed: sizeOf[fuse.OpenIn](), blocks: perCommit},
	opRead:          {serve: (*Server).readFile, fixed: sizeOf[fuse.ReadIn](), before: (*Server).lookAtReader, blocks: perCommit},
	opWrite:         {serve: (*Server).writeFile, fixed: sizeOf[fuse.WriteIn](), changes: true, blocks: perIO + perCommit},
	opStatfs:        {serve: (*Server).statfs, fixed: size0},
	opFlush:         {serve: (*Server).flush, fixed: sizeOf[fuse.FlushIn](), before: (*Server).lookAtCloser, blocks: perCommit},
	opFsync:         {serve: (*Server).fsync, fixed: sizeOf[fuse.FsyncIn](), blocks: perCommit},
	opRelease:       {serve: (*Server).release, fixed: sizeOf[fuse.ReleaseIn](), blocks: perCommit},
	opSetxattr:      {serve: (*Server).setxattr, fixed: sizeOf[setxattrIn](), names: 1, changes: true},
	opGetxattr:      {serve: (*Server).getxattr, fixed: sizeOf[getxattrIn](), names: 1},
	opListxattr:     {serve: (*Server).listxattr, fixed: sizeOf[getxattrIn]()},
	opRemovexattr:   {serve: (*Server).removexattr, fixed: size0, names: 1, changes: true},
	opOpendir:       {serve: (*Server).opendir, fixed: size0},
	opReaddir:       {serve: (*Server).readdir, fixed: sizeOf[fuse.ReadIn]()},
	opReleasedir:    {serve: (*Server).nothing, fixed: size0},
	opCreate:        {serve: (*Server).create, fixed: sizeOf[fuse.CreateIn](), names: 1, changes: true, blocks: perCommit},
	opTmpfile:       {serve: (*Server).tmpfile, fixed: sizeOf[fuse.CreateIn](), changes: true},
	opFallocate:     {serve: (*Server).fallocate, fixed: sizeOf[fuse.FallocateIn](), changes: true, blocks: 2 + 2*perRekey + perCommit},
	opLseek:         {serve: (*Server).lseek, fixed: sizeOf[fuse.LseekIn]()},
	opCopyFileRange: {serve: (*Server).copyFileRange, fixed: sizeOf[fuse.CopyFileRangeIn](), changes: true, blocks: perCopy + perCommit},
	opStatx:         {serve: (*Server).statx, fixed: sizeOf[fuse.StatxIn]()},
	opSyncfs:        {serve: (*Server).nothing, fixed: size0},
	opForget:        {serve: (*Server).forget, fixed: inHeaderSize + 8},
	opBatchForget:   {serve: (*Server).batchForget, fixed: sizeOf[batchForgetIn](), blocks: perForget},
	opDestroy:       {serve: (*Server).nothing, fixed: size0},
}

func (s *Server) nothing(*request) unix.Errno { return 0 }

// dispatch serves r under the lock and commits what it changed. answer is
// false for requests that get none.
func (s *Server) dispatch(r *request) (errno unix.Errno, answer bool) {
	answer = r.in.Opcode != opForget && r.in.Opcode != opBatchForget
	if r.in.Opcode >= uint32(len(operations)) || operations[r.in.Opcode].serve == nil {
		return unix.ENOSYS, answer
	}
	op := &operations[r.in.Opcode]
	if !r.parse(op) {
		s.logf("a request of kind %d is too short or has no end of string", r.in.Opcode)
		return unix.EINVAL, answer
	}
	if op.before != nil {
		op.before(s, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() {
		return unix.EIO, answer
	}
	s.serving(r)
	defer s.served()
	defer func() {
		if p := recover(); p != nil {
			s.recovered(fmt.Sprintf("a request of kind %d", r.in.Opcode), p)
			s.discardAfterPanic(r)
			errno = unix.EIO
		}
	}()
	if s.done[r.slot].unique == r.in.Unique && !crypt.ServesTwice() {
		r.again = true
		errno = s.again(r)
		r.again = false
		s.tx.reset() // reading again stamps nothing
		return errno, answer
	}
	return s.run(op, r), answer
}

func (s *Server) run(op *operation, r *request) unix.Errno {
	if s.readOnly != "" && op.changes {
		return unix.EROFS
	}
	crypt.During(r.in.Opcode)
	errno := s.room(op.blocks)
	if s.blamed(r) {
		s.logf("a request of kind %d ended the worker each time that it was served: it is answered with an error", r.in.Opcode)
		errno = unix.EIO
	}
	if errno == 0 {
		errno = op.serve(s, r)
	}
	crypt.Point("served")
	if errno == 0 && r.looked != 0 {
		n := s.inodes[r.looked]
		n.lookups++
		s.tx.put(n)
		r.done = n.ino
	}
	if s.tx.empty() && !op.changes || s.readOnly != "" {
		s.tx.reset()
		return errno
	}
	s.done[r.slot] = done{r.in.Unique, errno, r.done}
	s.tx.done(s.done[r.slot], r.slot)
	s.tx.commit()
	return errno
}

// recovered makes the index again from what is committed: the panic may have left
// it half changed.
func (s *Server) recovered(during string, p any) {
	s.count(savedPanics)
	s.logf("internal error serving %s: %v\n%s", during, describe(p), debug.Stack())
	if err := s.load(); err != nil {
		s.degrade(err.Error())
	}
}

// count counts in memory that outlives this process.
func (s *Server) count(word int) { atomic.AddUint64(as[uint64](s.mem.Slots()[word:]), 1) }

func (s *Server) counted(word int) uint64 { return atomic.LoadUint64(as[uint64](s.mem.Slots()[word:])) }

func (s *Server) panics() uint64 { return s.counted(savedPanics) }

// describe keeps data out of the log: a runtime error's text has none, any
// other value might.
func describe(p any) string {
	switch p := p.(type) {
	case error:
		return p.Error()
	case string:
		return p
	}
	return "no description"
}

func (s *Server) discardAfterPanic(r *request) {
	r.fresh = r.fresh[:0]
	r.reply = nil
	clear(r.scratch)
	clear(r.copy)
}

// parse finds the strings of a request.
func (r *request) parse(op *operation) bool {
	if len(r.req) < op.fixed {
		return false
	}
	r.name, r.rest = nil, r.req[op.fixed:]
	if op.names > 0 {
		var ok bool
		if r.name, r.rest, ok = cstring(r.rest); !ok {
			return false
		}
	}
	return true
}

// again answers a request that was served already, with what was recorded.
func (s *Server) again(r *request) unix.Errno {
	d := s.done[r.slot]
	if d.errno != 0 {
		return d.errno
	}
	n := s.inodes[r.in.NodeId]
	switch r.in.Opcode {
	case opLookup, opSymlink, opMknod, opMkdir, opLink, opCreate, opTmpfile:
		n = s.inodes[d.value]
		if n == nil {
			return unix.EIO // wiped since
		}
		switch r.in.Opcode {
		case opCreate, opTmpfile:
			s.createReply(r, n, s.openFlags(r.in.Unique))
		default:
			s.entryReply(r, n)
		}
		r.looked = 0 // it counts already
	case opSetattr:
		if n == nil {
			return unix.EIO
		}
		s.attrReply(r, n, as[fuse.SetAttrInCommon](r.req).Fh)
	case opWrite, opCopyFileRange:
		*as[fuse.WriteOut](r.small(sizeOf[fuse.WriteOut]())) = fuse.WriteOut{Size: uint32(d.value)}
	case opOpen:
		s.openReply(r, s.openFlags(r.in.Unique))
	case opRead, opReaddir, opReadlink:
		return operations[r.in.Opcode].serve(s, r) // only stamped a time
	}
	return 0
}

// forget takes back what entryReply counted.
func (s *Server) forget(r *request) unix.Errno {
	s.unref(r.in.NodeId, *as[uint64](r.req[inHeaderSize:]))
	return 0
}

func (s *Server) batchForget(r *request) unix.Errno {
	list := r.req[sizeOf[batchForgetIn]():]
	for range as[batchForgetIn](r.req).Count {
		if len(list) < sizeOf[forgetOne]() {
			return unix.EINVAL
		}
		one := as[forgetOne](list)
		s.step()
		s.tx.stage()
		s.unref(one.NodeId, one.Nlookup)
		list = list[sizeOf[forgetOne]():]
	}
	return 0
}

func (s *Server) unref(ino, count uint64) {
	n := s.inodes[ino]
	if n == nil || ino == rootIno {
		return // of a session that was wiped
	}
	n.lookups -= min(count, n.lookups)
	s.tx.put(n)
	s.free(n)
}

// unlook takes back a reference that the kernel did not accept.
func (s *Server) unlook(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() || s.readOnly != "" {
		return
	}
	s.room(0)
	s.unref(r.looked, 1)
	if !s.tx.empty() {
		s.tx.commit()
	}
}
