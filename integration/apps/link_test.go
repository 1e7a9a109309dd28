package apps

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const secret = "a-token-that-nobody-must-find"

var azureHome = map[string]string{
	".azure/msal_token_cache.json": secret + " 1",
	".azure/azureProfile.json":     "profile",
	".azure/config":                "[core]",
	".azure/cliextensions/x/x.py":  "print()",
	".azure/commands/":             "",
	".azure/extensionsecret.json":  "unknown",
	".azure/az.sess":               "session",
	"notes":                        "mine",
}

func TestLinkAndBack(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	os.Chmod(d.home(".azure/msal_token_cache.json"), 0o600)
	os.Chmod(d.home(".azure"), 0o751)
	before := d.snapshot()
	az := d.app("azure-cli")
	if err := d.Link(az, false); err != nil {
		t.Fatal(err)
	}
	if found := d.onDisk(secret); len(found) > 0 {
		t.Errorf("on disk: %q", found)
	}
	for name, want := range azureHome {
		if strings.HasSuffix(name, "/") {
			continue
		}
		if got := d.read(d.home(name)); got != want {
			t.Errorf("%s holds %q through the link", name, got)
		}
	}
	st, err := os.Stat(d.home(".azure"))
	if err != nil || st.Mode().Perm() != 0o751 {
		t.Errorf("the directory on the mount: %v, %v", st, err)
	}
	if !d.heard("linked ~/.azure") || !d.heard("overwritten and removed") || !d.heard("az config set core.collect_telemetry=false") {
		t.Errorf("said %q", d.said)
	}
	after := d.snapshot()
	if err := d.Link(az, false); err != nil || !d.heard("linked already") {
		t.Errorf("linking again: %v, said %q", err, d.said)
	}
	d.same("after linking again", d.snapshot(), after)

	// What is edited while linked is what there is afterwards.
	for name, text := range map[string]string{".azure/config": "edited", ".azure/logs/az.log": "log", ".azure/az.sess": "session 2", ".azure/new.json": "new"} {
		if err := os.WriteFile(d.home(name), []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
	d.wipe()
	if got := d.read(d.home(".azure/config")); got != "edited" {
		t.Errorf("after a wipe config holds %q", got)
	}
	if _, err := os.Stat(d.home(".azure/msal_token_cache.json")); !os.IsNotExist(err) {
		t.Errorf("after a wipe: %v", err)
	}
	os.WriteFile(d.home(".azure/msal_token_cache.json"), []byte(secret+" 2"), 0o600)
	os.WriteFile(d.home(".azure/versionCheck.json"), []byte("1"), 0o644)
	if err := d.Unlink("azure-cli", false, false); err != nil {
		t.Fatal(err)
	}
	if found := d.onDisk(secret); len(found) > 0 {
		t.Errorf("on disk after unlink: %q", found)
	}
	got := d.snapshot()
	if got[".azure/versionCheck.json"] == "" || d.read(d.home(".azure/az.sess")) != "session 2" {
		t.Error("what the app wrote beside its secrets did not come back")
	}
	d.same("after unlink", got, before, ".azure/msal_token_cache.json", ".azure/azureProfile.json", ".azure/config",
		".azure/az.sess", ".azure/versionCheck.json", ".azure/logs", ".azure/logs/az.log")
	if entries, _ := os.ReadDir(d.Mountpoint); len(entries) > 0 {
		t.Errorf("left on the mount: %v", entries)
	}
}

func TestUnlinkKeepsTokens(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	before := d.snapshot()
	if err := d.Link(d.app("azure-cli"), false); err != nil {
		t.Fatal(err)
	}
	if err := d.Unlink("azure-cli", true, false); err != nil {
		t.Fatal(err)
	}
	d.same("there and back", d.snapshot(), before)
	if err := d.Unlink("azure-cli", true, false); err != nil || !d.heard("azure-cli is not linked") {
		t.Errorf("unlinking again: %v, said %q", err, d.said)
	}
}

// Every app, from nothing and back to nothing.
func TestLinkEveryAppFromNothing(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	before := d.snapshot()
	for _, a := range Table {
		if err := d.Link(a, true); err != nil {
			t.Errorf("link %s: %v", a.Name, err)
		}
		for _, p := range a.Places {
			if p.File != "" {
				continue
			}
			dir := d.Dirs.Expand(p.Dir)
			if err := os.WriteFile(filepath.Join(dir, "probe"), []byte(secret), 0o600); err != nil {
				t.Errorf("%s: %v", a.Name, err)
			}
			for _, keep := range p.Keep {
				name := filepath.Join(dir, keep, "probe")
				if !strings.HasSuffix(keep, "/") {
					name = filepath.Join(dir, keep)
				}
				if err := os.WriteFile(name, []byte("kept"), 0o600); err != nil {
					t.Errorf("%s: %v", a.Name, err)
				} else if err := os.Remove(strings.Replace(name, dir, keptOf(dir), 1)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if found := d.onDisk(secret); len(found) > 0 {
		t.Errorf("on disk: %q", found)
	}
	d.wipe()
	for i := range Table {
		a := Table[len(Table)-1-i]
		if err := d.Unlink(a.Name, false, true); err != nil {
			t.Errorf("unlink %s: %v", a.Name, err)
		}
	}
	for _, dir := range []string{".config/gh", ".config/gcloud", ".cache", ".local"} {
		os.Remove(d.home(dir))
	}
	d.same("after unlinking everything", d.snapshot(), before)
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, app, want string
		set             func(d *desk)
	}{
		{"irreplaceable", "azure-cli", "client secrets of service principals", func(d *desk) { d.write(map[string]string{".azure/service_principal_entries.json": secret}) }},
		{"mixed", "docker", "registry passwords", func(d *desk) {}},
		{"keys of AWS", "aws-credentials", "access keys", func(d *desk) { d.write(map[string]string{".aws/credentials": secret}) }},
		{"link for a cache", "azure-cli", "is a link", func(d *desk) { os.Symlink("/dev/null", d.home(".azure/msal_token_cache.json")) }},
		{"second name", "azure-cli", "another name", func(d *desk) {
			os.Link(d.home(".azure/accessTokens.json"), d.home("copy"))
		}},
		{"in the way", "azure-cli", "in the way", func(d *desk) { os.Mkdir(d.home(".azure.tokenfs"), 0o700) }},
		{"linked by hand", "azure-cli", "not on the list", func(d *desk) {
			os.RemoveAll(d.home(".azure"))
			os.Mkdir(filepath.Join(d.Mountpoint, "az"), 0o700)
			os.Symlink(filepath.Join(d.Mountpoint, "az"), d.home(".azure"))
		}},
		{"leads nowhere", "azure-cli", "leads nowhere", func(d *desk) {
			os.RemoveAll(d.home(".azure"))
			os.Symlink("/nonexistent/x", d.home(".azure"))
		}},
		{"on both sides", "azure-cli", "remove the one", func(d *desk) {
			os.Mkdir(filepath.Join(d.Mountpoint, "azure"), 0o700)
			os.WriteFile(filepath.Join(d.Mountpoint, "azure/accessTokens.json"), nil, 0o600)
		}},
		{"not a directory", "terraform", "not a directory", func(d *desk) { d.write(map[string]string{".terraform.d": ""}) }},
		{"a name that is not text", "azure-cli", "not UTF-8", func(d *desk) { d.write(map[string]string{".azure/\xff": ""}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, memoryDir(t))
			d.write(map[string]string{".azure/accessTokens.json": secret, ".azure/config": ""})
			c.set(d)
			before := d.snapshot()
			err := d.Link(d.app(c.app), false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			var cost *CostError
			if errors.As(err, &cost) && !strings.Contains(err.Error(), "--yes-lose") {
				t.Errorf("it does not say what to do: %v", err)
			}
			d.same("after a refusal", d.snapshot(), before)
		})
	}
}

func TestMixedComesBackOnlyWhenAsked(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".npmrc": "//r/:_authToken=" + secret, ".docker/config.json": secret, ".docker/cli-plugins/x": "x"})
	before := d.snapshot()
	for _, name := range []string{"npm", "docker"} {
		if err := d.Link(d.app(name), true); err != nil {
			t.Fatal(err)
		}
	}
	if found := d.onDisk(secret); len(found) > 0 {
		t.Errorf("on disk: %q", found)
	}
	set := d.read(d.home(".config/environment.d/60-tokenfs.conf"))
	if !strings.Contains(set, `NPM_CONFIG_USERCONFIG="`+d.Mountpoint+`/npm/.npmrc"`) || !d.heard("NPM_CONFIG_USERCONFIG, which is set in ~/.config/environment.d/60-tokenfs.conf") {
		t.Errorf("variables %q, said %q", set, d.said)
	}
	if !d.heard(`it is not set here, nor in shells opened by ssh: there run eval "$(tokenfs env npm)"`) {
		t.Errorf("of this shell it says nothing: %q", d.said)
	}
	for _, name := range []string{"npm", "docker"} {
		if err := d.Unlink(name, false, false); err == nil || !strings.Contains(err.Error(), "--keep-tokens") || strings.Contains(err.Error(), "next logout") {
			t.Errorf("unlink %s: %v", name, err)
		}
		if err := d.Unlink(name, true, false); err != nil {
			t.Error(err)
		}
	}
	d.same("there and back", d.snapshot(), before)
}

func TestSharedPlace(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".local/.IdentityService/msal.cache": secret})
	for _, name := range []string{"git-credential-manager", "azure-identity"} {
		if err := d.Link(d.app(name), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Unlink("git-credential-manager", true, false); err != nil {
		t.Fatal(err)
	}
	if !d.heard("~/.local/.IdentityService stays linked: azure-identity uses it") || len(d.onDisk(secret)) > 0 {
		t.Errorf("said %q", d.said)
	}
	if err := d.Unlink("azure-identity", true, false); err != nil {
		t.Fatal(err)
	}
	if got := d.read(d.home(".local/.IdentityService/msal.cache")); got != secret {
		t.Errorf("came back as %q", got)
	}
}

func TestNestedPlaces(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".kube/config": secret, ".kube/cache/oidc-login/abc": secret, ".kube/cache/discovery/d": "d"})
	before := d.snapshot()
	link := func(name string) error { return d.Link(d.app(name), true) }
	if err := errors.Join(link("kubelogin"), link("kubectl")); err != nil {
		t.Fatal(err)
	}
	if d.read(d.home(".kube/cache/oidc-login/abc")) != secret || d.read(d.home(".kube/cache/discovery/d")) != "d" || len(d.onDisk(secret)) > 0 {
		t.Error("not all is where it should be")
	}
	if err := d.Unlink("kubelogin", true, false); err == nil || !strings.Contains(err.Error(), "unlink that first") {
		t.Errorf("unlinking the inner one: %v", err)
	}
	if err := errors.Join(d.Unlink("kubectl", true, false), d.Unlink("kubelogin", true, false)); err != nil {
		t.Fatal(err)
	}
	d.same("there and back", d.snapshot(), before, ".kube") // but for the time when something in it was renamed
	if err := errors.Join(link("kubectl")); err != nil {
		t.Fatal(err)
	}
	if err := link("kubelogin"); err == nil || !strings.Contains(err.Error(), "linked itself") {
		t.Errorf("linking the inner one second: %v", err)
	}
}

func TestRemovedLinkIsMended(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	az := d.app("azure-cli")
	d.must(d.Link(az, false))
	os.Remove(d.home(".azure"))
	if err := d.Link(az, false); err != nil || d.read(d.home(".azure/config")) != "[core]" || !d.heard("linked ~/.azure again") {
		t.Errorf("not mended: %v, said %q", err, d.said)
	}

	// The app has made a directory of its own, with new tokens and settings.
	os.Remove(d.home(".azure"))
	for name, text := range map[string]string{"msal_token_cache.json": secret + " new", "config": "new", "logs/az.log": "new", "new.json": "new"} {
		os.MkdirAll(filepath.Dir(d.home(".azure/"+name)), 0o700)
		os.WriteFile(d.home(".azure/"+name), []byte(text), 0o600)
	}
	if err := d.Unlink("azure-cli", false, false); err == nil || !strings.Contains(err.Error(), "replaced since") {
		t.Errorf("unlink with a directory in its place: %v", err)
	}
	d.must(d.Link(az, false))
	if len(d.onDisk(secret)) > 0 {
		t.Errorf("on disk: %q", d.onDisk(secret))
	}
	for name, want := range map[string]string{"msal_token_cache.json": secret + " new", "config": "new", "logs/az.log": "new", "cliextensions/x/x.py": "print()", "new.json": "new"} {
		if got := d.read(d.home(".azure/" + name)); got != want {
			t.Errorf("mended, %s holds %q", name, got)
		}
	}
	os.Remove(d.home(".azure"))
	if err := d.Unlink("azure-cli", true, false); err != nil || d.read(d.home(".azure/msal_token_cache.json")) != secret+" new" || d.read(d.home(".azure/new.json")) != "new" {
		t.Errorf("unlink without the link: %v", err)
	}
}

func TestMendingRefuses(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	az := d.app("azure-cli")
	d.must(d.Link(az, false))
	os.Remove(d.home(".azure"))
	d.write(map[string]string{".azure/service_principal_entries.json": secret})
	before := d.snapshot()
	if err := d.Link(az, false); err == nil || !strings.Contains(err.Error(), "--yes-lose") {
		t.Errorf("with what cannot be had again: %v", err)
	}
	d.same("after a refusal", d.snapshot(), before)
	d.must(d.Link(az, true))
	if len(d.onDisk(secret)) > 0 {
		t.Errorf("on disk: %q", d.onDisk(secret))
	}
	os.Remove(d.home(".azure"))
	d.write(map[string]string{".azure": "a file"})
	if err := d.Link(az, true); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("with a file: %v", err)
	}
}

func TestUnlinkWithoutMount(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	before := d.snapshot()
	if err := d.Link(d.app("azure-cli"), false); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(d.Mountpoint, "azure"))
	d.Mounted = false
	if err := d.Unlink("azure-cli", true, false); err == nil || !strings.Contains(err.Error(), "no tokens to keep") {
		t.Errorf("with --keep-tokens: %v", err)
	}
	if err := d.Unlink("azure-cli", false, false); err != nil {
		t.Fatal(err)
	}
	d.same("after unlink", d.snapshot(), before, ".azure/msal_token_cache.json", ".azure/azureProfile.json")
}

func TestByPath(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{"own app/cache.json": secret, "own app/deep/er/cache.json": secret})
	before := d.snapshot()
	a := d.app(d.home("own app"))
	var cost *CostError
	if err := d.Link(a, false); !errors.As(err, &cost) || !strings.Contains(err.Error(), "--renewable") {
		t.Errorf("without a yes: %v", err)
	}
	d.same("after a refusal", d.snapshot(), before)
	d.must(d.Link(a, true))
	if len(d.onDisk(secret)) > 0 || d.read(d.home("own app/deep/er/cache.json")) != secret {
		t.Error("not moved")
	}
	if err := d.Unlink(a.Name, false, false); err == nil || !strings.Contains(err.Error(), "--keep-tokens") {
		t.Errorf("unlink would destroy it: %v", err)
	}
	d.must(d.Unlink(a.Name, true, false))
	d.same("there and back", d.snapshot(), before)
	if _, err := Find("emacs"); !errors.Is(err, ErrUsage) {
		t.Errorf("unknown app: %v", err)
	}
}

// Who says that a login brings it back need not say so again; a private key is
// one whatever anybody says.
func TestByPathRenewable(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{"own/cache.json": "x"})
	a := d.app(d.home("own"))
	d.Renewable = true
	d.must(d.Link(a, false))
	d.Renewable = false
	d.must(d.Unlink(a.Name, false, false))
	d.write(map[string]string{"own/id": "-----BEGIN OPENSSH PRIVATE KEY-----\n"})
	d.Renewable = true
	if err := d.Link(a, false); err == nil || !strings.Contains(err.Error(), "own/id: a private key (irreplaceable)") {
		t.Errorf("with a key: %v", err)
	}
	d.must(d.Link(a, true))
	if err := d.Unlink(a.Name, false, false); err == nil || !strings.Contains(err.Error(), "a private key") {
		t.Errorf("unlink would destroy a key: %v", err)
	}
}

// Directories that are not an app's own are refused by name, by whatever way
// they are named; the place of a known app is that app.
func TestPathsThatAreNotLinked(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".ssh/id": "", ".ssh/deep/x": "", ".gnupg/": "", ".config/x/": "", ".local/share/keyrings/": "", ".aws/sso/cache/": "", ".azure/cliextensions/": "",
		".azure.tokenfs/x/": "", ".kube/cache/": "", "file": "", ".cache/": "", "mine/": "", ".config/tokenfs/": ""})
	d.must(os.Symlink(d.home("."), d.home("mine/link")))
	for path, want := range map[string]string{
		d.home("."): "home directory", "/": "", filepath.Dir(d.Dirs.Home): "home directory", d.home("mine/link"): "home directory",
		d.home(".ssh"): "keys in ~/.ssh", d.home(".ssh/deep"): "keys in ~/.ssh", d.home("mine/link/.ssh"): "keys in ~/.ssh", d.home(".gnupg"): "~/.gnupg",
		d.home(".config"): "many programs", d.home(".local"): "keyrings", d.home(".local/share"): "keyrings", d.home(".cache"): "many programs",
		d.home(".config/tokenfs"): "its own files", d.home(".aws"): "tokenfs link aws", d.home(".azure/cliextensions"): "tokenfs link azure-cli", d.home(".azure.tokenfs/x"): "tokenfs link azure-cli",
		d.Mountpoint: "", d.home("none"): "does not exist", d.home("file"): "is a file", "/etc/": "", "/usr/share": "", "/tmp": "",
	} {
		if a, err := d.Find(path); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want an error with %q", path, a.Name, err, want)
		}
	}
	for path, want := range map[string]string{d.home(".azure"): "azure-cli", d.home(".azure/"): "azure-cli", d.home(".azure.tokenfs"): "azure-cli", d.home(".npmrc"): "npm", "az": "azure-cli", "tofu": "terraform", "aws": "aws"} {
		if a, err := d.Find(path); a.Name != want {
			t.Errorf("%s is %q, %v, want %s", path, a.Name, err, want)
		}
	}
	if a, err := d.Find(d.home("mine")); err != nil || a.Name != d.home("mine") {
		t.Errorf("an own directory: %q, %v", a.Name, err)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(azureHome)
	d.write(map[string]string{"own/a": "x", "own/b": "y"})
	d.must(os.MkdirAll(d.home("empty"), 0o700))
	before := d.whole()
	d.DryRun = true
	d.must(d.Link(d.app("azure-cli"), false))
	for _, want := range []string{"would link ~/.azure", "msal_token_cache.json: access and refresh tokens (renewable)", "which the last logout ends", "would keep on disk, in ~/.azure.tokenfs: "} {
		if !d.heard(want) {
			t.Errorf("said %q, not %q", d.said, want)
		}
	}
	if err := d.Link(d.app(d.home("own")), false); err == nil || !d.heard("would link ~/own") {
		t.Errorf("what would be refused: %v", err)
	}
	d.must(d.Link(d.app(d.home("empty")), false))
	d.same("after dry runs", d.whole(), before)
	d.DryRun = false
	d.must(d.Link(d.app("azure-cli"), false))
	linkedNow := d.whole()
	d.DryRun = true
	d.must(d.Unlink("azure-cli", true, false))
	if !d.heard("would unlink ~/.azure") || !d.heard("would bring back to disk: ") {
		t.Errorf("said %q", d.said)
	}
	d.same("after a dry run", d.whole(), linkedNow)
}

// What is in a file decides where its name does not.
func TestClassesByContent(t *testing.T) {
	for _, c := range []struct{ app, file, text, want string }{
		{"gcloud", ".config/gcloud/application_default_credentials.json", `{"type": "authorized_user", "refresh_token": "1//abc"}`, ""},
		{"gcloud", ".config/gcloud/application_default_credentials.json", "{\n  \"type\": \"service_account\",\n \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMII\"}", "a private key"},
		{"gcloud", ".config/gcloud/credentials.db", "SQLite format 3\x00" + strings.Repeat("\x00", 5000) + `{"type": "service_account"}`, "service account"},
		{"gh", ".config/gh/hosts.yml", "github.com:\n    oauth_token: gho_" + strings.Repeat("a", 36), ""},
		{"gh", ".config/gh/hosts.yml", "github.com:\n    oauth_token: ghp_" + strings.Repeat("a", 36), "personal access token of GitHub"},
		{"gh", ".config/gh/hosts.yml", "github.com:\n    oauth_token: github_pat_" + strings.Repeat("a", 36), "personal access token of GitHub"},
		{"terraform", ".terraform.d/credentials.tfrc.json", "{\n  \"credentials\": {\n    \"app.terraform.io\": {\n      \"token\": \"x.atlasv1.y\"\n    }\n  }\n}", "Terraform"},
		{"terraform", ".terraform.d/credentials.tfrc.json", "{\n  \"credentials\": {}\n}", ""},
		{"azure-cli", ".azure/msal_token_cache.json", `{"RefreshToken": {"x": {"secret": "0.AXoA-sk-` + strings.Repeat("aB_-", 50) + `npm_"}}}`, ""},
		{"git-credential-manager", ".gcm/store/git/https/github.com/u.credential", "glpat-" + strings.Repeat("x", 20), "GitLab"},
	} {
		d := newDesk(t, memoryDir(t))
		d.write(map[string]string{c.file: c.text})
		err := d.Link(d.app(c.app), false)
		var cost *CostError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s with %.60q: %v", c.file, c.text, err)
		case c.want != "" && (!errors.As(err, &cost) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s with %.60q: %v, want a refusal over %q", c.file, c.text, err, c.want)
		}
		_, skipped, err := d.Safe()
		if d.must(err); slices.Contains(skipped, c.app) != (c.want != "") {
			t.Errorf("%s with %.60q: --all leaves out %q", c.file, c.text, skipped)
		}
	}
}

func TestStraysAreGathered(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{".npmrc": secret})
	d.must(d.Link(d.app("npm"), true))
	d.must(d.Link(d.app("azure-cli"), false))
	d.write(map[string]string{".npmrc": secret + "_authToken", ".azure.tokenfs/accessTokens.json": secret})
	report := func(name string) AppReport {
		r, err := d.Survey()
		d.must(err)
		return r.Apps[slices.IndexFunc(r.Apps, func(a AppReport) bool { return a.Name == name })]
	}
	if r := report("azure-cli"); len(r.Plaintext) != 1 || r.Run != "tokenfs link azure-cli" {
		t.Errorf("azure-cli: %+v", r)
	}
	if r := report("npm"); len(r.Plaintext) != 1 || r.Run != "tokenfs link --yes-lose npm" {
		t.Errorf("npm: %+v", r)
	}
	d.must(d.Link(d.app("azure-cli"), false))
	if err := d.Link(d.app("npm"), true); err == nil || !strings.Contains(err.Error(), "remove the one") {
		t.Errorf("with two of a kind: %v", err)
	}
	os.Remove(filepath.Join(d.Mountpoint, "npm/.npmrc"))
	if err := d.Link(d.app("npm"), false); err == nil || !strings.Contains(err.Error(), "--yes-lose") {
		t.Errorf("without leave: %v", err)
	}
	d.must(d.Link(d.app("npm"), true))
	if found := d.onDisk(secret); len(found) > 0 || d.read(d.home(".azure/accessTokens.json")) != secret || !d.heard("moved in ~/.npmrc") {
		t.Errorf("on disk: %q, said %q", found, d.said)
	}
}

func TestSafe(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	t.Setenv("PATH", "")
	d.write(map[string]string{".azure/service_principal_entries.json": secret, ".config/gh/hosts.yml": secret, ".docker/config.json": `"auth"`, ".terraform.d/credentials.tfrc.json": secret}) // which has not the form of a token
	list, skipped, err := d.Safe()
	d.must(err)
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
		if err := d.Link(a, false); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(names, []string{"gh", "terraform"}) || !slices.Equal(skipped, []string{"azure-cli", "docker"}) {
		t.Errorf("safe: %q, left out: %q", names, skipped)
	}
	if list, _, err := d.Safe(); len(list) > 0 || err != nil {
		t.Errorf("safe once they are linked: %v, %v", list, err)
	}
}

func TestSkeletonIsOfOneFilesystem(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.must(d.Link(d.app("terraform"), false))
	for mountpoint, want := range map[string]int{d.Mountpoint: 1, d.Mountpoint + "2": 0} {
		if f, err := Skeleton(List(d.Dirs), d.Dirs.Home, mountpoint); err != nil || len(f) != want {
			t.Errorf("at %s: %+v, %v", mountpoint, f, err)
		}
	}
	d.Engine.Mountpoint += "2"
	d.IsMounted = func(string) bool { return true }
	if err := d.Link(d.app("gh"), false); !errors.Is(err, ErrUsage) {
		t.Errorf("linking to another filesystem: %v", err)
	}
	d.IsMounted, d.Private = nil, true
	if err := d.Link(d.app("gh"), false); !errors.Is(err, ErrUsage) {
		t.Errorf("linking inside of tokenfs run: %v", err)
	}
}

func TestVariablesInEveryFormat(t *testing.T) {
	vars := []Variable{{"A", `it's $HOME "here" \ and`}}
	for format, want := range map[string]string{
		"sh":            `export A='it'\''s $HOME "here" \ and'`,
		"fish":          `set -gx A 'it\'s $HOME "here" \\ and'`,
		"environment.d": `A="it's \$HOME \"here\" \\ and"`,
		"dockerfile":    `ENV A="it's \$HOME \"here\" \\ and"`,
	} {
		got, err := Format(vars, format)
		if err != nil || got != want+"\n" {
			t.Errorf("%s: %s, %v", format, got, err)
		}
		if format == "sh" {
			out, err := exec.Command("sh", "-c", got+`printf %s "$A"`).Output()
			if err != nil || string(out) != vars[0].Value {
				t.Errorf("sh makes of it %q, %v", out, err)
			}
		}
	}
}
