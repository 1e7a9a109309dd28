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

func (w *workerProcess) reveal(m toWorker) (answer toKeeper, known bool) {
	if m.Verb != verbReveal {
		return toKeeper{}, false
	}
	all := w.server.Reveal()
	for _, k := range all.Keys {
		answer.Keys = append(answer.Keys, hex.EncodeToString(k))
	}
	answer.Regions = all.Spans
	return answer, true
}

func (d *daemon) reveal(r request) (reply, bool) {
	if r.Verb != verbReveal {
		return reply{}, false
	}
	answer, err := d.worker.call(toWorker{Verb: verbReveal}, answerLimit)
	if err != nil {
		return failure(err), true
	}
	return reply{revelation: answer.revelation}, true
}
