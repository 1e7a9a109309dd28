package clients

import (
	"fmt"
	"path/filepath"
	"testing"
)

// MSAL for Python, and so az, reads its cache without a lock: a read that comes
// between another process's truncation and its write finds it empty, and the app
// says that nobody is signed in. That is so on tmpfs; here, where a call takes
// longer, it is more often.
func TestMSALPythonReadsUnlocked(t *testing.T) {
	s := newSession(t)
	pythonApp.version(s)
	c := client{homes: []string{"compare"}}
	c.onTmpfs(s)
	empty := map[string]int{}
	for _, on := range []struct{ name, dir string }{{"tmpfs", filepath.Join(s.home, "compare")}, {"tokenfs", s.Mountpoint()}} {
		out, err := s.try(s.client(python, filepath.Join(filepath.Dir(tokenfs), "unlocked.py"), on.dir, "8"))
		if err != nil {
			t.Fatal(err)
		}
		var reads, parts, none int
		if _, err := fmt.Sscan(out, &reads, &none, &parts); err != nil {
			t.Fatal(err)
		}
		t.Logf("on %s: of %d reads %d found the cache empty, %d a part of it", on.name, reads, none, parts)
		empty[on.name] = none
	}
	if empty["tokenfs"] > 0 && empty["tmpfs"] == 0 {
		t.Error("no read found the cache empty on tmpfs")
	}
}
