//go:build tokenfs_reveal

package crypt

import "unsafe"

// Span is a range of this process's addresses.
type Span struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
	What  string `json:"what"`
}

// Revelation is what a memory search is to look for, and where it may find it.
type Revelation struct {
	Keys  [][]byte // bitwise inverted, so that they are no find themselves
	Spans []Span
	Arena []Span // its log and its cells: ciphertext
}

// Reveal gives away every key, for a test that searches this process's memory.
// Call it on a Quiet thread.
func (m *Memory) Reveal() Revelation {
	var r Revelation
	k := m.Keys
	r.add(k.r.mem[sessionKey : sessionKey+keySize])
	r.addState(k.session)
	half := m.Log.side()
	r.add(k.logKey(half))
	r.addState(k.logs[half])
	for slot := Key(1); int(slot) < k.high(); slot++ {
		if k.used.has(int(slot)) {
			r.add(k.key(slot))
			r.addState(*k.state(slot))
		}
	}
	r.Spans = []Span{span(k.r.mem[sessionKey:], "keys"), span(m.slots.mem, "slots")}
	cells := m.Arena.layout.cellsOff
	r.Arena = []Span{span(m.Arena.r.mem[:cells], "log"), span(m.Arena.r.mem[cells:], "cells")}
	return r
}

// addState adds the round keys and the GHASH table.
func (r *Revelation) addState(a aead) {
	s := (*gcmState)(unsafe.Pointer(&a.mem[0]))
	r.add(unsafe.Slice((*byte)(unsafe.Pointer(&s.enc)), unsafe.Sizeof(s.enc)))
	r.add(unsafe.Slice((*byte)(unsafe.Pointer(&s.productTable)), unsafe.Sizeof(s.productTable)))
}

func (r *Revelation) add(secret []byte) {
	inverted := make([]byte, len(secret))
	for i := range secret {
		inverted[i] = ^secret[i]
	}
	r.Keys = append(r.Keys, inverted)
}

func span(b []byte, what string) Span {
	start := uint64(uintptr(unsafe.Pointer(&b[0])))
	return Span{start, start + uint64(len(b)), what}
}
