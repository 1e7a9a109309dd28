//go:build tokenfs_reveal

package lifecycle

import (
	"encoding/hex"

	"tokenfs/crypt"
)

// revelation is what a test build adds to a reply: every key.
type revelation struct {
	Keys    []string     `json:"keys,omitempty"`
	Regions []crypt.Span `json:"regions,omitempty"`
}

const verbReveal = "reveal"

func testVerb(verb string) bool { return verb == verbReveal }

func (d *daemon) reveal(r request) (reply, bool) {
	if r.Verb != verbReveal {
		return reply{}, false
	}
	var out reply
	all := d.server.Reveal()
	for _, k := range all.Keys {
		out.Keys = append(out.Keys, hex.EncodeToString(k))
	}
	out.Regions = all.Spans
	return out, true
}
