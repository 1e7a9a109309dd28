package crypt

import (
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Secretmem says whether the key region uses memfd_secret(2).
type Secretmem int

const (
	SecretmemAuto Secretmem = iota // where the kernel has it
	SecretmemOn                    // or fail
	SecretmemOff                   // memfd_secret inhibits hibernation while it exists
)

// MemoryConfig sizes a Memory. Every process that attaches must use the same.
type MemoryConfig struct {
	Quota     int64 // bytes of contents, a multiple of BlockSize
	Spare     int64 // bytes beyond Quota that the caller may still fill
	Keys      int   // data keys alive at once
	Meta      int64 // bytes that all of the caller's records take when checkpointed, at most
	Slots     int   // bytes of request slots, a multiple of the page size
	SlotFirst []int // offsets of the pages among Slots to lock first
	Secretmem Secretmem
}

// Memory is all the state that must outlive a process: the key region, the
// arena, and the request slots. It is not safe for concurrent use: the caller
// has one lock around everything.
type Memory struct {
	Keys  *Keyring
	Arena *Arena
	Log   *Log
	slots *region
	why   string // no secretmem
}

// NewMemory makes an empty Memory with a fresh session key. It fails when not
// even the session key can be locked.
func NewMemory(cfg MemoryConfig) (*Memory, error) {
	m, err := makeMemory(cfg)
	if err != nil {
		return nil, err
	}
	m.lock(cfg)
	if m.Keys.r.locked == 0 {
		m.Detach()
		return nil, fmt.Errorf("locking the session key in memory: refused with RLIMIT_MEMLOCK at %d bytes; without it keys could reach swap: raise the limit (ulimit -l, LimitMEMLOCK=) to 64 KiB at least", LockLimit())
	}
	Quietly(m.Fresh)
	return m, nil
}

func makeMemory(cfg MemoryConfig) (_ *Memory, err error) {
	m := &Memory{}
	defer func() {
		if err != nil {
			m.Detach()
		}
	}()
	keySize := keyringSize(cfg.Keys)
	var keys *region
	if cfg.Secretmem != SecretmemOff {
		if keys, err = newRegion("key", keySize, true); err != nil {
			m.why = whyNoSecretmem(err)
			if cfg.Secretmem == SecretmemOn {
				return nil, fmt.Errorf("secretmem=on, but %w: %s", err, m.why)
			}
		}
	} else {
		m.why = "off by request"
	}
	if keys == nil {
		if keys, err = newRegion("key", keySize, false); err != nil {
			return nil, err
		}
	}
	m.Keys = newKeyring(keys, cfg.Keys)
	layout := layoutFor(cfg)
	arena, err := newRegion("arena", layout.size, false)
	if err != nil {
		return nil, err
	}
	m.Arena = newArena(arena, layout, m.Keys)
	m.Log = newLog(arena, layout, m.Keys)
	m.slots, err = newRegion("slot", int64(cfg.Slots), false)
	return m, err
}

// lock locks in order of what a byte is worth: session key and cipher states,
// the pages that small requests pass through, all slots, then the data keys.
// What may be locked at once is: clients wait while a worker starts.
func (m *Memory) lock(cfg MemoryConfig) {
	m.populate()
	if !m.Keys.r.lock(0, keysOff) {
		return
	}
	if !m.slots.lock(0, cfg.Slots) {
		for _, off := range cfg.SlotFirst {
			if !m.slots.lock(off, off+pageSize) {
				return
			}
		}
		for off := 0; off < cfg.Slots; off += pageSize {
			if !slices.Contains(cfg.SlotFirst, off) && !m.slots.lock(off, off+pageSize) {
				return
			}
		}
	}
	all := len(m.Keys.r.mem)
	if m.Keys.r.lock(keysOff, all) {
		return
	}
	const step = 16 * pageSize
	for off := keysOff; off < all; off += step {
		if !m.Keys.r.lock(off, min(off+step, all)) {
			return
		}
	}
}

// populate makes every page of the slots present and writable, be it locked or
// not: the kernel writes requests into them with the process possibly dead, and
// fails those that meet a page fault.
func (m *Memory) populate() {
	unix.Madvise(m.slots.mem, unix.MADV_POPULATE_WRITE) // the loop alone would do, page by page
	for off := 0; off < len(m.slots.mem); off += pageSize {
		atomic.AddUint64(m.slots.word(off), 0) // changes nothing: a predecessor may have left requests
	}
}

// FDs are the descriptors that carry a Memory to another process.
type FDs struct {
	Keys, Arena, Slots int
	Secret             bool   // Keys is a memfd_secret
	Why                string // it is not
}

// FDs lends m's descriptors; they stay m's.
func (m *Memory) FDs() FDs {
	return FDs{Keys: m.Keys.r.fd, Arena: m.Arena.r.fd, Slots: m.slots.fd, Secret: m.Keys.r.secret, Why: m.why}
}

// AttachMemory maps a Memory whose process has ended, made with the same cfg.
// It owns fds from then on. The caller replays the log and claims what it finds
// in use before anything else. Call it on a Quiet thread.
func AttachMemory(cfg MemoryConfig, fds FDs) (*Memory, error) {
	m, err := MapMemory(cfg, fds)
	if err != nil {
		return nil, err
	}
	if m.Keys.wiping() {
		m.Fresh()
	} else {
		m.Keys.resume()
	}
	return m, nil
}

// MapMemory maps a Memory that another process uses. The only thing to be done
// with it while that lives is Destroy.
func MapMemory(cfg MemoryConfig, fds FDs) (*Memory, error) {
	m := &Memory{why: fds.Why}
	layout := layoutFor(cfg)
	keys, err := mapRegion("key", fds.Keys, fds.Secret)
	if err != nil {
		return nil, err
	}
	m.Keys = newKeyring(keys, cfg.Keys)
	arena, err := mapRegion("arena", fds.Arena, false)
	if err != nil {
		m.Detach()
		return nil, err
	}
	if m.slots, err = mapRegion("slot", fds.Slots, false); err != nil {
		arena.close()
		m.Detach()
		return nil, err
	}
	m.Arena = newArena(arena, layout, m.Keys)
	m.Log = newLog(arena, layout, m.Keys)
	if int64(len(keys.mem)) != keyringSize(cfg.Keys) || int64(len(arena.mem)) != layout.size || len(m.slots.mem) != cfg.Slots {
		m.Detach()
		return nil, fmt.Errorf("taking over memory of another process: sizes differ from this version's")
	}
	m.lock(cfg)
	return m, nil
}

// Fresh destroys every key, then everything sealed under them, and starts a
// new session. A crash in between is finished by the next AttachMemory. Call
// it on a Quiet thread.
func (m *Memory) Fresh() {
	m.Destroy()
	m.Arena.reset()
	m.Keys.fresh()
	m.Log.reset()
	m.Keys.live()
}

// Destroy zeroes all keys. What they sealed can never be opened again.
func (m *Memory) Destroy() { m.Keys.destroy() }

// OnStep has f called by what takes as long as there is memory behind the arena,
// such as zeroing it: a small step of it is done.
func (m *Memory) OnStep(f func()) { m.Arena.r.step = f }

// Slots is the memory of the request slots.
func (m *Memory) Slots() []byte { return m.slots.mem }

// Erase destroys the keys, then zeroes everything that they sealed, and the
// slots. What happened is not to be resumed: nothing is served from m any more.
func (m *Memory) Erase() {
	m.Destroy()
	m.Arena.reset()
	clear(m.slots.mem)
}

// EraseForGood is Erase for a process that ends while its threads still serve:
// the slots cannot be written to any more, by the kernel as little as by them.
func (m *Memory) EraseForGood() {
	m.Destroy()
	m.Arena.reset()
	m.slots.eraseForGood()
}

// SetInTrust says, to all processes that have m, whether one that serves nothing
// will erase m if nobody takes it over.
func (m *Memory) SetInTrust(yes bool) {
	word := uint64(0)
	if yes {
		word = 1
	}
	atomic.StoreUint64(m.Keys.r.word(trustWord), word)
}

// InTrust is what SetInTrust said last, in whichever process.
func (m *Memory) InTrust() bool { return atomic.LoadUint64(m.Keys.r.word(trustWord)) != 0 }

// Detach gives the mappings and descriptors back. The memory stays with other
// processes that have it; without any it is gone, and not zeroed: see Close.
func (m *Memory) Detach() {
	if m.Keys != nil {
		m.Keys.r.close()
	}
	if m.Arena != nil {
		m.Arena.r.close()
	}
	if m.slots != nil {
		m.slots.close()
	}
}

// Close erases m and gives all memory back.
func (m *Memory) Close() {
	m.Erase()
	m.Detach()
}

// MemoryStatus says what protects a Memory on this machine.
type MemoryStatus struct {
	Secretmem    bool   // the key region is memfd_secret
	SecretmemWhy string // why not, when it is not
	KeysLocked   int64  // bytes of the key region that cannot swap
	KeysSize     int64
	SlotsLocked  int64 // bytes of the request slots that cannot swap
	SlotsSize    int64
	HardwareAES  bool
	InPlaceKeys  bool // cipher states are set up in locked memory, never on the heap
	ArenaBytes   int64
}

// Status reports what protects m.
func (m *Memory) Status() MemoryStatus {
	return MemoryStatus{
		Secretmem:    m.Keys.r.secret,
		SecretmemWhy: m.why,
		KeysLocked:   m.Keys.r.locked,
		KeysSize:     int64(len(m.Keys.r.mem)),
		SlotsLocked:  m.slots.locked,
		SlotsSize:    int64(len(m.slots.mem)),
		HardwareAES:  hardwareAES(),
		InPlaceKeys:  inPlaceKeys(),
		ArenaBytes:   m.Arena.r.allocated(),
	}
}

func getrandom(b []byte) {
	for len(b) > 0 {
		n, err := unix.Getrandom(b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // getrandom(2): cannot fail on any kernel that has memfds
			panic("internal error: getrandom: " + err.Error())
		}
		b = b[n:]
	}
	overwriteRegisters() // the kernel's vDSO makes random bytes in them
}
