package hygiene

import (
	"bytes"
	"os"
	"testing"

	"tokenfs/integration/test/mounted"
)

// What is shipped cannot be made to reveal its keys: it has no code for that.
func TestShippedRevealsNothing(t *testing.T) {
	code := []byte("tokenfs/crypt.(*Memory).Reveal")
	for _, build := range []struct {
		tags []string
		has  bool
	}{{nil, false}, {[]string{"tokenfs_reveal"}, true}} {
		command := mounted.Build(t, build.tags...)
		b, err := os.ReadFile(command)
		if err != nil {
			t.Fatal(err)
		}
		if has := bytes.Contains(b, code); has != build.has {
			t.Errorf("built with the tags %q, the command can reveal keys: %v", build.tags, has)
		}
	}
	m := mounted.New(t, mounted.Build(t))
	reply := m.Control(t, `{"v":1,"verb":"reveal"}`)
	if !bytes.Contains(reply, []byte("error")) || bytes.Contains(reply, []byte("keys")) {
		t.Errorf("asked to reveal, the shipped command answers %d bytes, not an error", len(reply))
	}
}
