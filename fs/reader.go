package fs

import (
	"encoding/binary"

	"tokenfs/crypt"
)

// reader takes fields off a record; short is set when there are too few.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) string() string { return string(r.bytes(int(r.u16()))) }

func (r *reader) stamp() stamp { return stamp{int64(r.u64()), r.u32()} }

func (r *reader) extent() extent {
	e := extent{at: r.u64(), recorded: true}
	v := r.u64()
	e.key, e.seals = crypt.Key(v>>32), uint32(v)
	e.version = r.u64()
	return e
}

func (r *reader) sealed() (s crypt.Sealed) {
	s.Cell, s.Len = r.u32(), r.u16()
	copy(s.Nonce[:], r.bytes(crypt.NonceSize))
	copy(s.Tag[:], r.bytes(crypt.TagSize))
	return s
}
