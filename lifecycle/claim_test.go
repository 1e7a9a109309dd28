package lifecycle

import (
	"os"
	"path/filepath"
	"testing"
)

// runtimeDir is a directory that only its owner enters, like a runtime
// directory.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestClearDeadFindsNothing(t *testing.T) {
	dir := runtimeDir(t)
	for _, path := range []string{dir + "/mnt", dir + "/missing/mnt"} {
		if cleared, err := ClearDead(path); err != nil || cleared != 0 {
			t.Errorf("%s: %d, %v", path, cleared, err)
		}
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left %v", names)
	}
}
