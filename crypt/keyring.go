package crypt

import (
	"errors"
	"sync/atomic"
)

// The key region:
//
//	page 0        state word, what counts of the log, session id, session key,
//	              log keys
//	+ states      cipher states: session, two logs, a cache of data keys
//	+ keysOff     data keys, 32 bytes each
const (
	keySize     = 32
	stateWord   = 0
	highWord    = 8  // no slot from here on was ever used in this session
	trustWord   = 16 // see SetInTrust
	formatWord  = 24 // FormatVersion of the process that began the session
	genWord     = 32 // the generation of the log that counts
	countWords  = 40 // how many records of each half are committed
	sessionOff  = 64 // 16 bytes of identity, no secret
	sessionKey  = 128
	logKeys     = sessionKey + keySize
	statesOff   = pageSize
	cacheStates = 32
	stateStride = (StateSize + 63) &^ 63
	keysOff     = (statesOff + (3+cacheStates)*stateStride + pageSize - 1) &^ (pageSize - 1)
)

// Values of the state word. Anything but live means: no key here may be used.
const (
	stateNone = iota
	stateWiping
	stateLive
)

// Key names a data key: a slot of the key region. 0 is no key.
type Key uint32

// ErrNoKeys means that every slot of the key region is in use.
var ErrNoKeys = errors.New("no free key slot")

// Keyring holds the session key, the log keys and the data keys, all in the
// key region and nowhere else.
type Keyring struct {
	r       *region
	n       int // slots
	session aead
	logs    [2]aead
	cache   [cacheStates]aead
	cached  [cacheStates]Key
	used    bitmap // slots in use
}

func keyringSize(keys int) int64 {
	return int64(keysOff+(keys+1)*keySize+pageSize-1) &^ (pageSize - 1)
}

func newKeyring(r *region, keys int) *Keyring {
	k := &Keyring{r: r, n: keys + 1}
	at := func(i int) aead {
		off := statesOff + i*stateStride
		return newAEAD(r.mem[off : off+stateStride])
	}
	k.session, k.logs[0], k.logs[1] = at(0), at(1), at(2)
	for i := range k.cache {
		k.cache[i] = at(3 + i)
	}
	k.used.set(0)
	return k
}

func (k *Keyring) key(slot Key) []byte {
	off := keysOff + int(slot)*keySize
	return k.r.mem[off : off+keySize]
}

// New draws a fresh data key.
func (k *Keyring) New() (Key, error) {
	slot := k.used.firstFree()
	if slot >= k.n {
		return 0, ErrNoKeys
	}
	k.used.set(slot)
	if slot >= k.high() {
		k.setHigh(slot + 1)
	}
	getrandom(k.key(Key(slot)))
	return Key(slot), nil
}

// Erase zeroes a data key: what it sealed is gone.
func (k *Keyring) Erase(slot Key) {
	if slot == 0 {
		return
	}
	clear(k.key(slot))
	if i := slot % cacheStates; k.cached[i] == slot {
		k.cache[i].clear()
		k.cached[i] = 0
	}
	k.used.unset(int(slot))
}

// state returns the cipher of a data key, set up if need be.
func (k *Keyring) state(slot Key) *aead {
	i := slot % cacheStates
	if k.cached[i] != slot {
		k.cached[i] = 0
		k.cache[i].setKey(k.key(slot))
		k.cached[i] = slot
	}
	return &k.cache[i]
}

// Reclaim forgets which slots are in use: the caller claims them anew.
func (k *Keyring) Reclaim() {
	k.used.reset()
	k.used.set(0)
}

// Claim marks a slot as in use after AttachMemory; false if it cannot be.
func (k *Keyring) Claim(slot Key) bool {
	if int(slot) >= k.n || slot == 0 || k.used.has(int(slot)) {
		return false
	}
	k.used.set(int(slot))
	return true
}

// Sweep zeroes what nobody claimed: keys drawn for a version never committed.
func (k *Keyring) Sweep() {
	for slot := 1; slot < k.high(); slot++ {
		if !k.used.has(slot) {
			clear(k.key(Key(slot)))
		}
	}
}

// session16 is the identity of the session that AADs are bound to.
func (k *Keyring) session16() []byte { return k.r.mem[sessionOff : sessionOff+16] }

func (k *Keyring) logKey(half int) []byte {
	off := logKeys + half*keySize
	return k.r.mem[off : off+keySize]
}

func (k *Keyring) freshLogKey(half int) {
	getrandom(k.logKey(half))
	k.logs[half].setKey(k.logKey(half))
}

func (k *Keyring) eraseLogKey(half int) {
	clear(k.logKey(half))
	k.logs[half].clear()
}

func (k *Keyring) high() int         { return int(atomic.LoadUint64(k.r.word(highWord))) }
func (k *Keyring) setHigh(n int)     { atomic.StoreUint64(k.r.word(highWord), uint64(n)) }
func (k *Keyring) setState(s uint64) { atomic.StoreUint64(k.r.word(stateWord), s) }
func (k *Keyring) wiping() bool      { return atomic.LoadUint64(k.r.word(stateWord)) != stateLive }
func (k *Keyring) live()             { k.setState(stateLive); Point("wipe: live") }

// destroy zeroes everything, the state word saying so first and last.
func (k *Keyring) destroy() {
	k.setState(stateWiping)
	Point("wipe: said")
	clear(k.r.mem[sessionOff:keysOff])
	Point("wipe: session key gone")
	clear(k.r.mem[keysOff : keysOff+min(k.high(), k.n)*keySize])
	clear(k.cached[:])
	k.used.reset()
	k.used.set(0)
	Point("wipe: keys gone")
}

// fresh draws the keys of a new session. The region holds none.
func (k *Keyring) fresh() {
	getrandom(k.session16())
	skey := k.r.mem[sessionKey : sessionKey+keySize]
	getrandom(skey)
	k.session.setKey(skey)
	k.setHigh(1)
	Point("wipe: session key drawn")
}

// resume sets the session's cipher up again from the key of a live region. The
// log's is set up by its replay, which knows which half counts.
func (k *Keyring) resume() {
	clear(k.r.mem[statesOff:keysOff])
	k.session.setKey(k.r.mem[sessionKey : sessionKey+keySize])
}

// resumeLogKey sets up the cipher of one half; the other one rests.
func (k *Keyring) resumeLogKey(half int) { k.logs[half].setKey(k.logKey(half)) }

// hasLogKey says whether a half's key is there.
func (k *Keyring) hasLogKey(half int) bool {
	for _, b := range k.logKey(half) {
		if b != 0 {
			return true
		}
	}
	return false
}

func (k *Keyring) format() uint64         { return atomic.LoadUint64(k.r.word(formatWord)) }
func (k *Keyring) setFormat(v uint64)     { atomic.StoreUint64(k.r.word(formatWord), v) }
func (k *Keyring) generation() uint64     { return atomic.LoadUint64(k.r.word(genWord)) }
func (k *Keyring) setGeneration(g uint64) { atomic.StoreUint64(k.r.word(genWord), g) }
func (k *Keyring) count(half int) uint64  { return atomic.LoadUint64(k.r.word(countWords + 8*half)) }
func (k *Keyring) setCount(half int, n uint64) {
	atomic.StoreUint64(k.r.word(countWords+8*half), n)
}
