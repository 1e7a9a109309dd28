package main

import (
	"fmt"
	"os"
	"strconv"

	"tokenfs/integration/test/scan"
)

// A cell of the table: how much of the secrets of one pattern was found.
type cell struct {
	Of    int            `json:"of"`    // bytes that were looked for
	Found int            `json:"found"` // of these, how many lie somewhere
	Where map[string]int `json:"where,omitempty"`
	// Bytes of keys in the region where they belong while the session lives.
	InPlace int `json:"in_place,omitempty"`
}

// cells maps system and pattern to what was found.
type cells map[string]map[string]*cell

func (c cells) at(system, pattern string) *cell {
	if c[system] == nil {
		c[system] = map[string]*cell{}
	}
	if c[system][pattern] == nil {
		c[system][pattern] = &cell{Where: map[string]int{}}
	}
	return c[system][pattern]
}

// search looks for all secrets in a dump, which may be nil, and in files. Keys in the
// pages of the files that the frames region are part of are in their place.
type search struct {
	secrets []secret
	dump    *dump
	region  map[uint64]bool // frames of the key region
	files   map[uint64]bool // and the file that it is
	covered [][]bool
	cells   cells
}

func newSearch(secrets []secret, d *dump, region []uint64) *search {
	s := &search{secrets: secrets, dump: d, region: map[uint64]bool{}, files: map[uint64]bool{}, cells: cells{}}
	for _, frame := range region {
		s.region[frame] = true
		if file := d.mapping(frame); file != 0 {
			s.files[file] = true
		}
	}
	for _, x := range secrets {
		s.covered = append(s.covered, make([]bool, len(x.bytes)))
		s.cells.at(x.system, x.pattern).Of += len(x.bytes)
	}
	return s
}

// run searches the dump, and each of the files under its name.
func (s *search) run(files map[string]string) error {
	set := new(scan.Set)
	for i, x := range s.secrets {
		if err := set.Add(strconv.Itoa(i), x.bytes); err != nil {
			return fmt.Errorf("%s of %s: %w", x.pattern, x.system, err)
		}
	}
	if s.dump != nil {
		report, err := scan.File(s.dump.file, set)
		if err != nil {
			return err
		}
		for _, hit := range report.Hits {
			s.inMemory(hit.Found)
		}
	}
	for where, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		report, err := scan.File(f, set)
		f.Close()
		if err != nil {
			return err
		}
		for _, hit := range report.Hits {
			s.add(hit.Found, hit.Offset, hit.Len, where)
		}
	}
	for i, x := range s.secrets {
		for _, found := range s.covered[i] {
			if found {
				s.cells.at(x.system, x.pattern).Found++
			}
		}
	}
	return nil
}

// inMemory splits what was found at the borders of pages: each may be somebody else's.
func (s *search) inMemory(f scan.Found) {
	for at, offset, left := f.Addr, f.Offset, f.Len; left > 0; {
		n := min(left, pageSize-int(at%pageSize))
		s.add(f, offset, n, s.where(f, at/pageSize))
		at, offset, left = at+uint64(n), offset+n, left-n
	}
}

const inPlace = "key region"

func (s *search) where(f scan.Found, frame uint64) string {
	x := s.secret(f)
	if x.pattern == keys || x.pattern == roundKeys || x.pattern == ghash {
		if s.region[frame] || s.files[s.dump.mapping(frame)] {
			return inPlace
		}
	}
	return s.dump.owner(frame)
}

func (s *search) secret(f scan.Found) secret { return s.secrets[s.index(f)] }

func (s *search) index(f scan.Found) int {
	i, err := strconv.Atoi(f.Label)
	if err != nil {
		panic("internal error: a label that is no number: " + f.Label)
	}
	return i
}

func (s *search) add(f scan.Found, offset, n int, where string) {
	i := s.index(f)
	x := s.secrets[i]
	if where == inPlace {
		s.cells.at(x.system, x.pattern).InPlace += n
		return
	}
	for k := offset; k < offset+n; k++ {
		s.covered[i][k] = true
	}
	if x.detail != "" {
		where = x.detail + ": " + where
	}
	s.cells.at(x.system, x.pattern).Where[where] += n
	// The first two round keys are the key.
	const keySize = 32
	if x.pattern == roundKeys && offset < keySize {
		n = min(n, keySize-offset)
		s.cells.at(x.system, keys).Where[where] += n
		for k := offset; k < offset+n; k++ {
			s.covered[i-1][k] = true // a key stands before its round keys
		}
	}
}
