package hygiene

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"tokenfs/integration/test/scan"
)

// A planted thing is written to the mount by the load, and looked for.
//
// What can be told from chance decides how it is looked for:
//
//	16 bytes and more   any 16 bytes in a row
//	6 to 15 bytes       the whole; six given bytes turn up by chance once in
//	                    four million looks at 64 MiB of random ones
//	3 to 5 bytes        in a WRITE request, behind its file offset, which is
//	                    made to be rare; and, in a SETXATTR request, behind
//	                    their attribute's name
//	1 and 2 bytes       as an attribute only; as file contents they are written
//	                    too, by the same code as the longer ones, and cannot be
//	                    recognised
type planted struct {
	content []byte
	offset  int64  // where in the file it is written
	xattr   string // it is the value of this attribute instead
}

// plan derives what is planted from a seed, so that the load and the test know
// it without telling each other.
func plan(seed [32]byte) (ps []planted) {
	src := rand.NewChaCha8(seed)
	random := func(n int) []byte {
		b := make([]byte, n)
		src.Read(b)
		for i := range b { // a zero is found everywhere
			b[i] = max(b[i], 1)
		}
		return b
	}
	for n := 1; n <= 200; n++ {
		p := planted{content: random(n)}
		if n < 6 {
			p.offset = int64(binary.LittleEndian.Uint64(append(random(5), 0, 0, 0)))
		}
		ps = append(ps, p)
	}
	for _, n := range []int{511, 4096, 4096, 5000, 64 << 10, 128 << 10, 128 << 10} {
		ps = append(ps, planted{content: random(n)})
	}
	for _, n := range []int{1, 2, 3, 5, 8, 16, 40, 200, 1000, 4000} {
		ps = append(ps, planted{content: random(n), xattr: fmt.Sprintf("user.%x", random(12))})
	}
	return ps
}

const (
	behindOffset = 24      // from the end of the offset in a WRITE request to its payload
	attribute    = "xattr" // begins the label of a planted attribute
)

// patterns is the Set that finds ps.
func patterns(ps []planted) (*scan.Set, error) {
	var s scan.Set
	for _, p := range ps {
		label, n := fmt.Sprintf("content of %d bytes", len(p.content)), len(p.content)
		var err error
		switch {
		case p.xattr != "":
			// The end of the name makes a run with the value; see sample.add.
			err = s.Add(attribute+fmt.Sprintf(" of %d bytes", n), append([]byte(p.xattr+"\x00"), p.content...))
		case n < 3:
		case n < 6:
			var anchor [8]byte
			binary.LittleEndian.PutUint64(anchor[:], uint64(p.offset))
			err = s.AddBehind(label, anchor, behindOffset, p.content)
		default:
			err = s.Add(label, p.content)
		}
		if err != nil {
			return nil, err
		}
	}
	return &s, nil
}
