package apps

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func (d *desk) report(name string) AppReport {
	d.Helper()
	r, err := d.Survey()
	d.must(err)
	i := slices.IndexFunc(r.Apps, func(a AppReport) bool { return a.Name == name })
	if i < 0 {
		d.Fatalf("no report of %s", name)
	}
	return r.Apps[i]
}

// A program that writes a new file and renames it replaces the link to what is
// kept on disk: that is seen, and the next link puts it back.
func TestReplacedSettingsArePutBack(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	az := d.app("azure-cli")
	d.must(d.Link(az, false))
	if r := d.report("azure-cli"); len(r.Replaced)+len(r.Unknown) > 0 || r.Run != "" {
		t.Errorf("before: %+v", r)
	}
	d.must(os.WriteFile(d.home(".azure/config.new"), []byte("table"), 0o600))
	d.must(os.Rename(d.home(".azure/config.new"), d.home(".azure/config")))
	d.must(os.WriteFile(d.home(".azure/own.json"), []byte("own"), 0o600))
	r := d.report("azure-cli")
	if !slices.Equal(r.Replaced, []string{d.home(".azure/config")}) || !slices.Equal(r.Unknown, []string{d.home(".azure/own.json")}) || r.Run != "tokenfs link azure-cli" {
		t.Errorf("replaced %q, unknown %q, run %q", r.Replaced, r.Unknown, r.Run)
	}
	d.must(d.Link(az, false))
	if !d.heard("put back to disk: ~/.azure/config") || d.read(d.home(".azure.tokenfs/config")) != "table" {
		t.Errorf("not put back: %q", d.said)
	}
	d.wipe()
	if got := d.read(d.home(".azure/config")); got != "table" {
		t.Errorf("after a wipe: %q", got)
	}
	if r := d.report("azure-cli"); len(r.Replaced) > 0 {
		t.Errorf("afterwards: %+v", r)
	}
}

// A link that leads nowhere is found, whatever its end lacks, and mended.
func TestLinksAreFollowedToTheirEnd(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	az := d.app("azure-cli")
	d.must(d.Link(az, false))
	for gone, want := range map[string]string{filepath.Join(d.Mountpoint, "azure"): "mnt/azure, which is gone", d.home(".azure.tokenfs"): "~/.azure.tokenfs, which is gone"} {
		d.must(os.RemoveAll(gone))
		r := d.report("azure-cli")
		if !strings.Contains(r.Places[0].Broken, want) || r.Run != "tokenfs link azure-cli" {
			t.Errorf("without %s: %+v", gone, r)
		}
		d.must(d.Link(az, false))
		if r := d.report("azure-cli"); r.Places[0].Broken != "" {
			t.Errorf("mended, still broken: %+v", r)
		}
		d.must(os.WriteFile(d.home(".azure/msal_token_cache.json"), []byte("x"), 0o600))
	}
	d.Mounted = false // what the mount has is not known then
	d.must(os.RemoveAll(filepath.Join(d.Mountpoint, "azure")))
	if r := d.report("azure-cli"); r.Places[0].Broken != "" {
		t.Errorf("unmounted: %+v", r)
	}
}

// Secrets of plug-ins are known, or at least seen; what only looks like one in
// an extension is let alone.
func TestSecretsOfPlugins(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\n"
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{
		".azure/config": "[core]\noutput = json\n", ".azure/plugin/token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9m", ".azure/some.json": `{"k":"ghp_` + strings.Repeat("x", 36) + `"}`,
		".azure/cliextensions/x/tests/key.pem": key, ".azure/logs/az.log": key, ".azure/a/b/c/d/deep": key, ".azure/az.json": `{"eyJ": "eyJ"}`, ".azure/large": key + strings.Repeat("x", suspectSize),
	})
	want := []string{d.home(".azure/plugin/token"), d.home(".azure/some.json")}
	if r := d.report("azure-cli"); !slices.Equal(r.Suspects, want) {
		t.Errorf("suspects %q, want %q", r.Suspects, want)
	}
	d.must(d.Link(d.app("azure-cli"), false))
	if !d.heard("may hold secrets that are not known of azure-cli") {
		t.Errorf("said %q", d.said)
	}
	if r := d.report("azure-cli"); len(r.Suspects) != 2 || !strings.Contains(r.Suspects[0], ".azure.tokenfs/") {
		t.Errorf("linked: %q", r.Suspects)
	}
	d = newDesk(t, memoryDir(t))
	d.write(map[string]string{".azure/azuredevops/personalAccessTokens": "[azdevops-cli:default]\nPersonal Access Token = " + secret})
	if err := d.Link(d.app("azure-cli"), false); err == nil || !strings.Contains(err.Error(), "az devops login") {
		t.Errorf("a PAT is taken for renewable: %v", err)
	}
	d.must(d.Link(d.app("azure-cli"), true))
	if found := d.onDisk(secret); len(found) > 0 {
		t.Errorf("on disk: %q", found)
	}
}
