package scan

import (
	"bytes"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"testing"
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func search(s *Set, b []byte) (fs []Found) {
	s.Search(b, 0x1000, func(f Found) { fs = append(fs, f) })
	return fs
}

// Whatever stretch of a secret lies anywhere, of Run bytes or more, is found
// for what it is; one byte less is not.
func TestSearchFindsEveryRun(t *testing.T) {
	secret := random(5000)
	var s Set
	if err := s.Add("secret", secret); err != nil {
		t.Fatal(err)
	}
	r := mrand.New(mrand.NewPCG(1, 2))
	for range 2000 {
		hay := random(1 << 12)
		n := Run + r.IntN(40)
		from, at := 1+r.IntN(len(secret)-n-1), 1+r.IntN(len(hay)-n-1)
		copy(hay[at:], secret[from:from+n])
		fs := search(&s, hay)
		if len(fs) != 1 || fs[0].Len < n || fs[0].Addr > uint64(0x1000+at) || fs[0].Offset > from {
			t.Fatalf("%d bytes of the secret at %d, from its byte %d: found %+v", n, at, from, fs)
		}
		hay[at-1], hay[at+Run-1] = ^secret[from-1], ^secret[from+Run-1]
		copy(hay[at+Run:], random(60))
		if fs := search(&s, hay); len(fs) > 0 {
			t.Fatalf("%d bytes of the secret were reported as found: %+v", Run-1, fs)
		}
	}
}

func TestSearchFindsShortSecretsWhole(t *testing.T) {
	var s Set
	var secrets [][]byte
	for n := Shortest; n < 64; n++ {
		b := random(n)
		secrets = append(secrets, b)
		if err := s.Add(fmt.Sprint(n), b); err != nil {
			t.Fatal(err)
		}
	}
	for at := range 16 {
		for _, b := range secrets {
			hay := make([]byte, 256)
			copy(hay[100+at:], b)
			fs := search(&s, hay)
			if len(fs) != 1 || fs[0].Label != fmt.Sprint(len(b)) || fs[0].Addr != uint64(0x1000+100+at) {
				t.Errorf("%d bytes at %d: found %+v", len(b), at, fs)
			}
			if len(b) < Run {
				hay[100+at+len(b)-1] ^= 1
				if fs := search(&s, hay); len(fs) != 0 {
					t.Errorf("%d bytes of %d at %d were reported as found: %+v", len(b)-1, len(b), at, fs)
				}
			}
		}
	}
}

func TestSearchFindsSeveral(t *testing.T) {
	var s Set
	hay := random(1 << 16)
	for i := range 500 {
		b := random(Run + i%50)
		if err := s.Add(fmt.Sprint(i), b); err != nil {
			t.Fatal(err)
		}
		copy(hay[i*131:], b)
	}
	fs := search(&s, hay)
	if len(fs) != 500 {
		t.Fatalf("found %d of 500 secrets", len(fs))
	}
	for i, f := range fs {
		if f.Label != fmt.Sprint(i) || f.Addr != uint64(0x1000+i*131) {
			t.Fatalf("secret %d: found %+v", i, f)
		}
	}
}

func TestSearchFindsBehindAnAnchor(t *testing.T) {
	var s Set
	anchor := [8]byte(random(8))
	if err := s.AddBehind("tiny", anchor, 24, []byte{0xa5}); err != nil {
		t.Fatal(err)
	}
	hay := make([]byte, 1024)
	copy(hay[512:], anchor[:])
	if fs := search(&s, hay); len(fs) != 0 {
		t.Errorf("the anchor alone was reported: %+v", fs)
	}
	hay[512+8+24] = 0xa5
	if fs := search(&s, hay); len(fs) != 1 || fs[0].Label != "tiny" || fs[0].Addr != 0x1000+512+8+24 {
		t.Errorf("found %+v", fs)
	}
}

func TestAddRefusesWhatCannotBeTold(t *testing.T) {
	var s Set
	for _, b := range [][]byte{nil, random(3), make([]byte, 100), bytes.Repeat([]byte("ab"), 50)} {
		if s.Add("x", b) == nil {
			t.Errorf("Add took %d bytes that cannot be searched for", len(b))
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	var s Set
	for i := range 2000 {
		s.Add(fmt.Sprint(i), random(32))
	}
	for range 4 {
		s.Add("large", random(128<<10))
	}
	for n := 7; n < Run; n++ {
		s.Add("short", random(n))
	}
	hay := random(32 << 20)
	b.SetBytes(int64(len(hay)))
	for b.Loop() {
		s.Search(hay, 0, func(Found) {})
	}
}
