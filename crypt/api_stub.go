package crypt

// Placeholder while the package is being written: the shape others build on.

// Secretmem says whether the key region uses memfd_secret(2).
type Secretmem int

const (
	SecretmemAuto Secretmem = iota
	SecretmemOn
	SecretmemOff
)

// MemoryConfig sizes a Memory.
type MemoryConfig struct {
	Quota     int64 // bytes of contents, a multiple of 4096
	Inodes    int
	Secretmem Secretmem
}

// MemoryStatus says what protects a Memory on this machine.
type MemoryStatus struct {
	Secretmem    bool   // key region is memfd_secret
	SecretmemWhy string // why not, when it is not
	KeysLocked   int64  // bytes of the key region that cannot swap
	KeysSize     int64
	SlotsLocked  int64 // bytes of the request slots that cannot swap
	SlotsSize    int64
	LockLimit    int64 // RLIMIT_MEMLOCK, -1 when unlimited (or CAP_IPC_LOCK)
	HardwareAES  bool
}

// Memory is the state that outlives a process: arena, key region, request slots.
type Memory struct{}

// NewMemory makes an empty one with a fresh session key.
func NewMemory(cfg MemoryConfig) (*Memory, error) { panic("stub") }

// Status reports what protects m.
func (m *Memory) Status() MemoryStatus { panic("stub") }

// Destroy zeroes the keys and releases everything.
func (m *Memory) Destroy() { panic("stub") }
