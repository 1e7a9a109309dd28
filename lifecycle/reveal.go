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
	Arena   []crypt.Span `json:"arena,omitempty"`
}

const verbReveal = "reveal"

func testVerb(verb string) bool { return verb == verbReveal || verb == verbTry }

func (w *workerProcess) reveal(m toWorker) (answer toKeeper, known bool) {
	switch m.Verb {
	case verbReveal:
	case verbTry:
		return try(string(m.Path)), true
	default:
		return toKeeper{}, false
	}
	all := w.server.Reveal()
	for _, k := range all.Keys {
		answer.Keys = append(answer.Keys, hex.EncodeToString(k))
	}
	answer.Regions, answer.Arena = all.Spans, all.Arena
	return answer, true
}

func (d *daemon) reveal(r request) (reply, bool) {
	switch r.Verb {
	case verbReveal:
	case verbTry:
		return d.try(r), true
	default:
		return reply{}, false
	}
	answer, err := d.worker.call(toWorker{Verb: verbReveal}, answerLimit)
	if err != nil {
		return failure(err), true
	}
	return reply{revelation: answer.revelation}, true
}
