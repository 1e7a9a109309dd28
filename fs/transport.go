package fs

import (
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

// Requests are read into slots of locked memory and answered out of them, so
// that payloads never touch the heap, and so that a request outlives a process
// that was killed while serving it. A slot is cleared once its answer is out.
//
//	slot    request   its page and up to maxIO of payload; a long reply is built
//	                  behind the first page, where a request that has one ends
//	        small     short replies
//	        scratch   plaintext of a block that is changed in part
//	        copy      plaintext on its way from file to file
//
// Behind them stands what else outlives a process.
const (
	maxIO     = 128 << 10 // max_write and max_read
	pageSize  = 4096
	slotCount = 4 // serving threads: none ever waits, so a few keep any machine busy

	slotRequest = pageSize + maxIO
	slotSmall   = slotRequest
	slotScratch = slotSmall + pageSize
	slotCopy    = slotScratch + pageSize
	slotSize    = slotCopy + pageSize

	// One page before the slots keeps the INIT that was negotiated.
	slotsOff = pageSize

	// A page behind them is for what two processes say to each other, and for
	// counts; then comes the table of handles.
	sharedOff       = slotsOff + slotCount*slotSize
	bellWord        = sharedOff
	draftsCommitted = sharedOff + 8
	draftsDropped   = sharedOff + 16
	questionsOff    = sharedOff + 64
	questionSize    = 64
	handlesOff      = sharedOff + pageSize
	slotsSize       = handlesOff + handleBytes
)

// slotFirstPages are the pages that a small request passes through.
func slotFirstPages() []int {
	offs := []int{0}
	for i := range slotCount {
		slot := slotsOff + i*slotSize
		offs = append(offs, slot, slot+pageSize, slot+slotSmall, slot+slotScratch)
	}
	return offs
}

// request is a thread's slot and the request that is in it.
type request struct {
	slot int
	mem  []byte // the slot

	in    *fuse.InHeader
	req   []byte // the whole request
	name  []byte // the first string behind the fixed fields, where there is one
	rest  []byte // what follows it
	reply []byte // header and payload, within mem; nil: header only

	long int // bytes of the slot's payload area that a reply used

	done    uint64 // a count to answer again with
	again   bool   // served before
	closer  closer // of FLUSH
	writer  uint64 // of READ: a draft that its process has written
	looked  uint64 // the inode that the reply makes the kernel hold
	fresh   []block
	scratch []byte
	copy    []byte
}

func (s *Server) newRequest(slot int) *request {
	off := slotsOff + slot*slotSize
	mem := s.mem.Slots()[off : off+slotSize]
	return &request{slot: slot, mem: mem,
		scratch: mem[slotScratch : slotScratch+pageSize : slotScratch+pageSize],
		copy:    mem[slotCopy : slotCopy+pageSize : slotCopy+pageSize]}
}

// small makes room for a short reply and returns its payload, zeroed.
func (r *request) small(n int) []byte {
	r.reply = r.mem[slotSmall : slotSmall+outHeaderSize+n]
	clear(r.reply)
	return r.reply[outHeaderSize:]
}

// big makes room for a reply of up to maxIO bytes, page-aligned. The request
// it answers fits into the slot's first page.
func (r *request) big(n int) []byte {
	r.long = n
	r.reply = r.mem[pageSize-outHeaderSize : pageSize+n]
	return r.reply[outHeaderSize:]
}

func (r *request) cutReply(n int) { r.reply = r.reply[:outHeaderSize+n] }

// serve is one thread's loop. It calls ready when it has served what a
// predecessor left in its slot.
func (s *Server) serve(slot int, ready func()) error {
	crypt.Quiet()
	defer crypt.EndThread()
	debug.SetPanicOnFault(true) // memory may run out under a sparse mapping
	r := s.newRequest(slot)
	s.beginWork(slot)
	if r.pending() {
		s.serveOne(r)
	}
	clear(r.mem) // a predecessor may have died while it was clearing
	s.step()
	ready()
	for {
		if r.pending() {
			s.serveOne(r)
			continue
		}
		s.busy[slot].Store(false)
		n, err := crypt.ReadAtRest(s.fuse, r.mem[:slotRequest])
		s.beginWork(slot)
		switch err {
		case nil:
			if n < inHeaderSize {
				return unix.EIO
			}
		case unix.EINTR, unix.EAGAIN, unix.ENOENT: // ENOENT: the request was interrupted while queued
		case unix.ENODEV: // unmounted
			return nil
		default:
			return err
		}
	}
}

// beginWork does not return once everything is over: see Abandon.
func (s *Server) beginWork(slot int) {
	s.busy[slot].Store(true)
	if s.over.Load() {
		s.busy[slot].Store(false)
		select {}
	}
}

// pending says whether a request waits in the slot: its length, the first
// thing the kernel writes and the first that finish clears, says so.
func (r *request) pending() bool { return atomic.LoadUint32(r.length()) != 0 }

func (r *request) length() *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[0])) }

// serveOne serves the request in the slot and empties it.
func (s *Server) serveOne(r *request) {
	s.wakeWatch()
	n := *r.length()
	if int(n) < inHeaderSize || int(n) > slotRequest {
		s.logf("a request of %d bytes makes no sense", n)
		r.finish()
		return
	}
	r.req = r.mem[:n:n]
	r.in = as[fuse.InHeader](r.req)
	if crypt.Unprotected {
		leaked = append([][]byte{append([]byte(nil), r.req...)}, leaked[:min(len(leaked), 100)]...)
	}
	r.reply, r.looked, r.done = nil, 0, 0
	crypt.Point("read")
	errno, answer := s.dispatch(r)
	if answer {
		crypt.Point("before the answer")
		s.answer(r, errno)
		crypt.Point("answered")
	}
	r.finish()
}

// leaked keeps requests on the heap in an unprotected test build.
var leaked [][]byte

// answer writes the reply. The kernel may have given the request up; then it
// does not hold what the reply told it of.
func (s *Server) answer(r *request, errno unix.Errno) {
	if errno != 0 || r.reply == nil {
		r.small(0) // a long reply that was begun is cleared by finish
	}
	*as[fuse.OutHeader](r.reply) = fuse.OutHeader{Length: uint32(len(r.reply)), Status: -int32(errno), Unique: r.in.Unique}
	_, err := unix.Write(s.fuse, r.reply)
	if err == unix.ENOENT && errno == 0 && r.looked != 0 {
		s.unlook(r)
	} else if err != nil && err != unix.ENOENT && err != unix.ENODEV {
		s.logf("answering request of kind %d: %v", r.in.Opcode, err)
	}
}

// finish clears the slot: first the length, so that it counts as served.
func (r *request) finish() {
	n := min(int(*r.length()), slotRequest)
	atomic.StoreUint32(r.length(), 0)
	crypt.Point("slot given back")
	clear(r.mem[:max(n, pageSize+r.long)])
	r.long = 0
}
