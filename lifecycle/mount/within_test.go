package mount

import (
	"path/filepath"
	"testing"

	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/fault/faulttest"
)

func TestWithin(t *testing.T) {
	dir := privateDir(t)
	mnt := mkdir(t, 0o700, dir, "mnt")
	bind := mkdir(t, 0o700, dir, "bind")
	home := mkdir(t, 0o700, dir, "home")
	mkdir(t, 0o700, home, "plain")
	symlink(t, mnt+"/azure", home+"/.azure")
	symlink(t, "../mnt", home+"/relative")
	symlink(t, ".azure", home+"/twice")
	symlink(t, "round", home+"/round")
	// Were it looked at, this would lead out again.
	symlink(t, "/etc", mnt+"/link")
	doors := map[string]string{mnt: "/", bind: "/azure"}
	t.Chdir(home)

	for in, want := range map[string]string{
		mnt:                           ".",
		mnt + "/":                     ".",
		mnt + "/a/b":                  "a/b",
		mnt + "//a/./b/":              "a/b",
		mnt + "/a/../b":               "b",
		mnt + "/link":                 "link",
		mnt + "/link/passwd":          "link/passwd",
		mnt + "/../mnt/a":             "a",
		mnt + "/a/../../mnt/b":        "b",
		home + "/.azure/cache":        "azure/cache",
		home + "/.azure/.":            "azure", // a dot asks to follow
		home + "/.azure/../aws":       "aws",
		home + "/twice/cache":         "azure/cache",
		"relative/x":                  "x",
		"./relative/x":                "x",
		"../mnt/x":                    "x",
		bind + "/cache":               "azure/cache",
		bind + "/../mnt/x":            "x",
		bind:                          "azure",
		mnt + "/not\xffutf8\n":        "not\xffutf8\n",
		home + "/plain/../relative/x": "x",
	} {
		if got, err := within(doors, in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
		if got, err := within(doors, in); err == nil && got != "." && CheckRelative([]byte(got)) != nil {
			t.Errorf("%q: the daemon would refuse %q: %v", in, got, CheckRelative([]byte(got)))
		}
	}
	for in, word := range map[string]string{
		home + "/.azure":  "symbolic link to " + mnt + "/azure",
		home + "/.azure/": "symbolic link",
		home + "/twice":   "symbolic link",
		"/etc/passwd":     "not in the filesystem",
		"/":               "not in the filesystem",
		"plain":           "not in the filesystem",
		mnt + "/..":       "not in the filesystem",
		mnt + "/a/../..":  "not in the filesystem",
		mnt + "x":         "does not exist",
		"missing":         "does not exist",
		"round/x":         "too many symbolic links",
	} {
		_, err := within(doors, in)
		t.Run(filepath.Base(in), func(t *testing.T) { faulttest.Want(t, err, fault.NoPath, word) })
	}
}
