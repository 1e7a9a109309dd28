package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// A secret is something that is looked for.
type secret struct {
	system  string // who was trusted with it
	pattern string // a column of the table
	detail  string // which of several, for the reader
	bytes   []byte
}

// The patterns, in the table's order.
const (
	contents   = "contents"
	keys       = "keys"
	roundKeys  = "round keys"
	ghash      = "GHASH tables"
	ciphertext = "ciphertext"
	recovered  = "recovered" // tokens that an attacker gets out of the dump
	names      = "names"
	targets    = "targets" // of symbolic links
)

var patterns = []string{contents, recovered, keys, roundKeys, ghash, ciphertext, names, targets}

// derive is what guest/app/app.c does.
func derive(seed, token string, length int) []byte {
	const text = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var all []byte
	for i := 0; len(all) < length; i++ {
		for _, c := range sha256.Sum256(fmt.Appendf(nil, "%s.%s.%d", seed, token, i)) {
			all = append(all, text[c&63])
		}
	}
	return all[:length]
}

// Sizes of what the client plants: see guest/each. An agent gets 64 characters, of
// which the first half is the private key.
const (
	nameSize    = 200
	targetSize  = 900
	agentSize   = 32
	keyringSize = 4096
)

// planted lists what the client has given each system in a state.
func planted(seed, state string, systems []string, tokens, size, named int) (all []secret) {
	for _, system := range systems {
		length := size
		switch system {
		case "ssh-agent":
			length = agentSize
		case "keyring":
			length = keyringSize
		}
		for i := range tokens {
			all = append(all, secret{system, contents, "", derive(seed, fmt.Sprintf("%s.%s.%d", state, system, i), length)})
		}
		if system == "keyring" || system == "ssh-agent" {
			continue
		}
		for i := range named {
			all = append(all,
				secret{system, names, "", derive(seed, fmt.Sprintf("%s.%s.n%d", state, system, i), nameSize)},
				secret{system, targets, "", derive(seed, fmt.Sprintf("%s.%s.t%d", state, system, i), targetSize)})
		}
	}
	return all
}

// told is what a test build of tokenfs says of itself, and what its arena held then.
// Keys stay inverted in it and in its file.
type told struct {
	Keys   []string            `json:"keys"`
	Frames map[string][]uint64 `json:"frames"`
	Sizes  map[string]uint64   `json:"sizes"`
	Cells  [][]byte            `json:"cells"` // pages of sealed blocks
	Log    [][]byte            `json:"log"`
}

func readTold(in io.Reader) (t told, err error) {
	if err := json.NewDecoder(in).Decode(&t); err != nil {
		return t, fmt.Errorf("reading what tokenfs tells: %w", err)
	}
	if len(t.Keys) < 6 || len(t.Frames["keys"]) == 0 || len(t.Frames["cells"]) == 0 {
		return t, fmt.Errorf("tokenfs tells %d keys, %d pages of key region and %d of its arena: is it a test build, and is something in it?",
			len(t.Keys), len(t.Frames["keys"]), len(t.Frames["cells"]))
	}
	return t, nil
}

func loadTold(path string) (t told, err error) {
	f, err := os.Open(path)
	if err != nil {
		return t, err
	}
	defer f.Close()
	return readTold(f)
}

// save adds the arena's pages, out of a dump, and writes all of it to a file. The frames
// are those that the worker has mapped, which of a new one are a few; they tell which
// file the arena is.
func (t told) save(d *dump, path string) error {
	arena := d.mapping(t.Frames["cells"][0])
	if arena == 0 || t.Sizes["log"] == 0 {
		return fmt.Errorf("the arena's file is not to be found in the dump")
	}
	for frame := range uint64(len(d.mem) / pageSize) {
		if d.mapping(frame) != arena {
			continue
		}
		switch page := bytes.Clone(d.frame(frame)); {
		case bytes.Count(page, []byte{0}) >= pageSize-64:
		case d.index(frame)*pageSize < t.Sizes["log"]:
			t.Log = append(t.Log, page)
		default:
			t.Cells = append(t.Cells, page)
		}
	}
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// secrets lists keys and sealed pages. With earlier, only the data keys and the sealed
// blocks that were not there then: those of the files that were made since.
func (t told) secrets(earlier *told) (all []secret, err error) {
	// The order is that of crypt/reveal.go: for each key its bytes, its round keys, its
	// GHASH table; the session's, the log's, those of files.
	for i, inverted := range t.Keys {
		b, err := hex.DecodeString(inverted)
		if err != nil {
			return nil, fmt.Errorf("key %d that tokenfs tells: %w", i, err)
		}
		for j := range b {
			b[j] = ^b[j]
		}
		whose := "data"
		if of := i / 3; of < 2 {
			whose = []string{"session", "log"}[of]
		}
		// A key's second and third entry follow its first.
		if earlier != nil && (whose != "data" || slices.Contains(earlier.Keys, t.Keys[i-i%3])) {
			continue
		}
		all = append(all, secret{"tokenfs", []string{keys, roundKeys, ghash}[i%3], whose, b})
	}
	add := func(detail string, pages, before [][]byte) {
		for _, page := range pages {
			if !slices.ContainsFunc(before, func(b []byte) bool { return bytes.Equal(b, page) }) {
				all = append(all, secret{"tokenfs", ciphertext, detail, page})
			}
		}
	}
	if earlier != nil {
		add("cells", t.Cells, earlier.Cells)
	} else {
		add("cells", t.Cells, nil)
		add("log", t.Log, nil)
	}
	return all, nil
}
