package lifecycle

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"
)

func TestInitOnFree(t *testing.T) {
	const (
		on  = "CONFIG_A=y\nCONFIG_INIT_ON_FREE_DEFAULT_ON=y\nCONFIG_B=m\n"
		off = "CONFIG_A=y\n# CONFIG_INIT_ON_FREE_DEFAULT_ON is not set\n"
	)
	dir := t.TempDir()
	for _, c := range []struct {
		cmdline, zipped, plain string
		on, known              bool
	}{
		{cmdline: "quiet"},
		{cmdline: "quiet", plain: on, on: true, known: true},
		{cmdline: "quiet", plain: off, known: true},
		{cmdline: "quiet", zipped: on, on: true, known: true},
		{cmdline: "quiet", zipped: off, plain: on, known: true},
		{cmdline: "quiet init_on_free=1 ro", on: true, known: true},
		{cmdline: "init_on_free=on init_on_free=off", plain: on, known: true},
		{cmdline: "init_on_free=0 init_on_free=Yes", plain: off, on: true, known: true},
		{cmdline: "init_on_free=off", plain: on, known: true},
		{cmdline: "init_on_free=perhaps", plain: on, on: true, known: true},
		{cmdline: "init_on_free=o", plain: off, known: true},
		{cmdline: "init_on_alloc=1 quiet -- init_on_free=1", plain: off, known: true},
	} {
		file := func(name, text string) string {
			path := filepath.Join(dir, name)
			os.Remove(path)
			if text != "" {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return path
		}
		var zipped bytes.Buffer
		if c.zipped != "" {
			w := gzip.NewWriter(&zipped)
			w.Write([]byte(c.zipped))
			w.Close()
		}
		got, known := initOnFreeIn(file("cmdline", c.cmdline+"\n"), file("config.gz", zipped.String()), file("config", c.plain))
		if got != c.on || known != c.known {
			t.Errorf("%+v: on is %v, known %v", c, got, known)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "torn.gz"), []byte("\x1f\x8b\x08 torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, known := initOnFreeIn(filepath.Join(dir, "cmdline"), filepath.Join(dir, "torn.gz")); known {
		t.Error("a torn configuration tells something")
	}
	if _, known := initOnFreeIn(filepath.Join(dir, "none"), filepath.Join(dir, "config")); known {
		t.Error("without the command line nothing is known")
	}
}
