package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tokenfs "tokenfs/fs"
	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/session"
)

// A patient is a machine that is well until something is planted.
type patient struct {
	*testing.T
	*Machine
	env map[string]string
}

const uid = 1000

func newPatient(t *testing.T) *patient {
	root, err := os.MkdirTemp("/dev/shm", "doctor-test-") // where an fsync costs nothing
	if err != nil {
		root = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	p := &patient{T: t, env: map[string]string{"HOME": filepath.Join(root, "home/u"), "PATH": "/bin:/usr/bin", "XDG_RUNTIME_DIR": "/run/user/1000"}}
	getenv := func(name string) string { return p.env[name] }
	p.plant(map[string]string{
		"/proc/sys/kernel/osrelease":                         "6.12.1-amd64",
		"/proc/sys/kernel/core_pattern":                      "|/bin/false",
		"/proc/sys/kernel/yama/ptrace_scope":                 "1",
		"/proc/swaps":                                        "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 5\n/dev/dm-1 partition 1 0 -2\n",
		"/sys/block/zram0/backing_dev":                       "none",
		"/sys/class/block/zram0/size":                        "1",
		"/sys/class/block/dm-1/dm/uuid":                      "LVM-abc",
		"/sys/class/block/dm-1/slaves/dm-0":                  "",
		"/sys/class/block/dm-0/dm/uuid":                      "CRYPT-LUKS2-abc",
		"/sys/class/block/sda2/partition":                    "2",
		"/sys/power/state":                                   "freeze mem disk",
		"/sys/power/disk":                                    "[platform] shutdown",
		"/proc/self/limits":                                  "Limit Soft Hard Units\nMax core file size        0                    unlimited            bytes\nMax locked memory         8388608              8388608              bytes\n",
		"/dev/fuse":                                          "",
		"/usr/bin/fusermount3":                               "",
		"/sys/module/fuse/parameters/allow_sys_admin_access": "N",
		"/run/user/1000/bus":                                 "",
	})
	p.plant(map[string]string{
		"/proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda2 rw\n2 1 0:5 / /run/user/1000 rw - tmpfs tmpfs rw\n3 1 8:3 / /enc rw - ext4 /dev/mapper/home rw\n",
	})
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "home/u"), 0o755), os.Mkdir(filepath.Join(root, "dev/mapper"), 0o755), os.Symlink("../dm-1", filepath.Join(root, "dev/mapper/home"))); err != nil {
		t.Fatal(err)
	}
	mountpoint := filepath.Join(root, "run/user/1000/tokenfs")
	p.Machine = &Machine{Root: root, UID: uid, User: "u", Getenv: getenv, Mountpoint: "/run/user/1000/tokenfs"}
	p.Status = &lifecycle.Status{Session: session.Status{Follows: true},
		Protections: []lifecycle.Protection{{Name: "uncovered", Active: true}, {Name: "swap_absent", Detail: "has a check of its own"}, {Name: "swap_forbidden", Detail: "what could be swapped is sealed"}}}
	dirs, err := apps.FindDirs(getenv)
	if err != nil {
		t.Fatal(err)
	}
	p.Apps = &apps.Engine{Dirs: dirs, Mountpoint: mountpoint, Mounted: true, Getenv: getenv,
		SetSkeleton: func(folders []tokenfs.Folder) error {
			for _, f := range folders {
				os.MkdirAll(filepath.Join(mountpoint, f.Path), 0o700)
			}
			return nil
		},
		Wipe:   func(path string) error { return os.RemoveAll(filepath.Join(mountpoint, path)) },
		Result: t.Logf, Say: t.Logf}
	p.own("/run/user/1000")
	p.mode("/run/user/1000", 0o700)
	p.mode("/dev/fuse", 0o666)
	p.mode("/usr/bin/fusermount3", 0o755|os.ModeSetuid)
	return p
}

func (p *patient) at(name string) string {
	if p.Machine == nil {
		return filepath.Join(strings.TrimSuffix(p.env["HOME"], "/home/u"), name)
	}
	return p.path(name)
}

func (p *patient) plant(files map[string]string) {
	p.Helper()
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(p.at(name)), 0o755), os.WriteFile(p.at(name), []byte(text), 0o644)); err != nil {
			p.Fatal(err)
		}
	}
}

func (p *patient) mode(name string, mode os.FileMode) {
	p.Helper()
	if mode == 0o500 { // or it could not be removed
		p.Cleanup(func() { os.Chmod(p.at(name), 0o700) })
	}
	if err := os.Chmod(p.at(name), mode); err != nil {
		p.Fatal(err)
	}
}

// own gives a file to the patient's user; where the tests are not root's, the
// patient becomes who runs them.
func (p *patient) own(name string) {
	p.Helper()
	if os.Geteuid() != 0 {
		p.UID = os.Geteuid()
		return
	}
	if err := os.Chown(p.at(name), uid, uid); err != nil {
		p.Fatal(err)
	}
}

// unmounted is as if nobody answered, because nothing is mounted.
func (p *patient) unmounted() {
	_, err := lifecycle.Query(filepath.Join(p.TempDir(), "nothing"))
	if fault.KindOf(err) != fault.NotMounted {
		p.Fatal(err)
	}
	p.Status, p.StatusErr, p.Apps.Mounted = nil, err, false
}

func (p *patient) link(name string) {
	p.Helper()
	a, err := apps.Find(name)
	if err == nil {
		err = os.MkdirAll(p.Apps.Mountpoint, 0o700)
	}
	if err == nil {
		err = p.Apps.Link(a, true)
	}
	if err != nil {
		p.Fatal(err)
	}
}

func (p *patient) protection(name string) {
	p.Status.Protections = append(p.Status.Protections, lifecycle.Protection{Name: name, Detail: "it is so: do that"})
}

func dead(t *testing.T) int {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// Every finding there is, seen once.
var illnesses = []struct {
	name     string
	check    string
	severity Severity
	text     string
	plant    func(p *patient)
}{
	{"tokens on disk", "plaintext", Exposed, "~/.azure/msal_token_cache.json", func(p *patient) {
		p.plant(map[string]string{"/home/u/.azure/msal_token_cache.json": "x", "/home/u/.azure/config": "x"})
	}},
	{"tokens where a variable says", "plaintext", Exposed, "elsewhere/msal_token_cache.json", func(p *patient) {
		p.plant(map[string]string{"/elsewhere/msal_token_cache.json": "x"})
		p.env["AZURE_CONFIG_DIR"] = p.at("/elsewhere")
	}},
	{"tokens in what is kept", "plaintext", Exposed, "~/.azure.tokenfs/msal_token_cache.json", func(p *patient) {
		p.link("azure-cli")
		p.plant(map[string]string{"/home/u/.azure.tokenfs/msal_token_cache.json": "x", "/home/u/.azure.tokenfs/config": "[core]\ncollect_telemetry = no"})
	}},
	{"a password in settings", "plaintext", Exposed, "~/.docker/config.json", func(p *patient) {
		p.plant(map[string]string{"/home/u/.docker/config.json": `{"auths":{"r":{"auth":"x"}}}`})
	}},
	{"plaintext beneath a mount", "protections", Exposed, "nothing_beneath", func(p *patient) { p.protection("nothing_beneath") }},
	{"plaintext at the mountpoint", "beneath", Exposed, `"msal.cache"`, func(p *patient) {
		p.plant(map[string]string{"/run/user/1000/tokenfs/msal.cache": "x"})
		p.mode("/run/user/1000/tokenfs", 0o500)
		p.unmounted()
	}},
	{"open mountpoint", "beneath", Weak, "can be written to", func(p *patient) {
		os.Mkdir(p.at("/run/user/1000/tokenfs"), 0o700)
		p.unmounted()
	}},
	{"a setting that means nothing", "configuration", Broken, "f:3: no size", func(p *patient) {
		p.Mistakes = errors.Join(errors.New("f:3: no size"), errors.New("g:1: no time"))
	}},
	{"not mounted", "mounted", Note, "nothing is mounted", func(p *patient) { p.unmounted() }},
	{"not mounted, and apps linked", "mounted", Broken, "linked apps fail until it is: terraform", func(p *patient) {
		p.link("terraform")
		os.RemoveAll(p.at("/run/user/1000/tokenfs/terraform"))
		p.mode("/run/user/1000/tokenfs", 0o500)
		p.unmounted()
	}},
	{"dead daemon", "mounted", Broken, "hung", func(p *patient) { p.Status, p.StatusErr = nil, errors.New("it is hung") }},
	{"unreadable list", "mounted", Broken, "apps.json", func(p *patient) {
		p.plant(map[string]string{"/home/u/.config/tokenfs/apps.json": "{"})
		p.unmounted()
	}},
	{"covered", "protections", Broken, "uncovered", func(p *patient) { p.protection("uncovered") }},
	{"keys not locked", "protections", Weak, "keys_locked", func(p *patient) { p.protection("keys_locked") }},
	{"no secretmem", "protections", Note, "secretmem", func(p *patient) { p.protection("secretmem") }},
	{"read-only", "protections", Broken, "read-only: a bit flipped", func(p *patient) { p.Status.Content.ReadOnly = "a bit flipped" }},
	{"link into nothing", "links", Broken, "terraform, which is gone", func(p *patient) {
		p.link("terraform")
		os.Remove(p.at("/run/user/1000/tokenfs/terraform"))
	}},
	{"replaced settings", "links", Weak, "~/.azure/config was replaced", func(p *patient) {
		p.link("azure-cli")
		p.plant(map[string]string{"/run/user/1000/tokenfs/azure/config": "x"})
	}},
	{"unknown files", "links", Note, "is no known secret (1 of such)", func(p *patient) {
		p.link("azure-cli")
		p.plant(map[string]string{"/run/user/1000/tokenfs/azure/own": "x"})
	}},
	{"a plug-in's secret", "links", Exposed, "~/.azure/plugin/key", func(p *patient) {
		p.plant(map[string]string{"/home/u/.azure/plugin/key": "-----BEGIN PRIVATE KEY-----"})
	}},
	{"removed link", "links", Broken, "~/.terraform.d was removed", func(p *patient) {
		p.link("terraform")
		os.Remove(p.at("/home/u/.terraform.d"))
	}},
	{"replaced link", "links", Broken, "replaced by a file or directory", func(p *patient) {
		p.link("terraform")
		os.Remove(p.at("/home/u/.terraform.d"))
		os.Mkdir(p.at("/home/u/.terraform.d"), 0o700)
	}},
	{"interrupted link", "links", Broken, "interrupted", func(p *patient) {
		p.link("terraform")
		list := p.at("/home/u/.config/tokenfs/apps.json")
		text, _ := os.ReadFile(list)
		os.WriteFile(list, []byte(strings.Replace(string(text), `"linked"`, `"erasing"`, 1)), 0o600)
	}},
	{"encrypted through libsecret", "settings", Weak, "encrypt_token_cache in ~/.azure/config is True", func(p *patient) {
		p.link("azure-cli")
		os.Symlink(p.at("/home/u/.azure.tokenfs/config"), p.at("/run/user/1000/tokenfs/azure/config"))
		p.plant(map[string]string{"/home/u/.azure.tokenfs/config": "[core]\ncollect_telemetry = no\nencrypt_token_cache = True\n"})
	}},
	{"telemetry on", "settings", Weak, "collect_telemetry by default", func(p *patient) { p.link("azure-cli") }},
	{"variable not set", "settings", Weak, "NPM_CONFIG_USERCONFIG is not set here", func(p *patient) {
		p.plant(map[string]string{"/home/u/.npmrc": "x"})
		p.link("npm")
	}},
	{"variable leads away", "settings", Weak, "GH_CONFIG_DIR=/elsewhere", func(p *patient) {
		p.link("gh")
		p.env["GH_CONFIG_DIR"] = "/elsewhere"
	}},
	{"dead owner", "locks", Broken, "is dead", func(p *patient) {
		p.plant(map[string]string{"/home/u/.IdentityService/msal.cache.lockfile": fmt.Sprint(dead(p.T))})
	}},
	{"old lock of kubectl", "locks", Broken, "does not say whose", func(p *patient) {
		p.plant(map[string]string{"/home/u/.kube/config.lock": ""})
		p.mode("/home/u/.kube/config.lock", 0)
		long := time.Now().Add(-time.Hour)
		os.Chtimes(p.at("/home/u/.kube/config.lock"), long, long)
	}},
	{"telemetry left", "copies", Exposed, "/tmp/tmpab12/cache", func(p *patient) {
		p.plant(map[string]string{"/tmp/tmpab12/cache": `2026-01-01T00:00:00,{"Context.Default.AzureCLI.Source":"az"}`, "/tmp/tmpcd34/cache": "something else"})
	}},
	{"a token in a log", "copies", Exposed, "npm has left copies on disk, such as ~/.npm/_logs/1.log", func(p *patient) {
		p.plant(map[string]string{"/home/u/.npm/_logs/1.log": "0 verbose argv config set //r/:_authToken=x"})
	}},
	{"swap partition", "swap", Weak, "/dev/sda2 is swap and not encrypted", func(p *patient) {
		p.plant(map[string]string{"/proc/swaps": "Filename\n/dev/sda2 partition 1 0 -2\n", "/sys/power/state": "mem"})
	}},
	{"swap file", "swap", Weak, "/swap file is swap and not encrypted", func(p *patient) {
		p.plant(map[string]string{"/proc/swaps": "Filename\n/swap\\040file file 1 0 -2\n", "/sys/power/state": "mem"})
	}},
	{"swap that is not known", "swap", Unknown, "is not known", func(p *patient) {
		p.plant(map[string]string{"/proc/swaps": "Filename\n/dev/sdz9 partition 1 0 -2\n"})
	}},
	{"zram with writeback", "zram", Weak, "writes back to /dev/sda2", func(p *patient) { p.plant(map[string]string{"/sys/block/zram0/backing_dev": "/dev/sda2"}) }},
	{"hibernation", "hibernation", Weak, "can hibernate", func(p *patient) {
		p.plant(map[string]string{"/proc/swaps": "Filename\n/dev/sda2 partition 1 0 -2\n"})
	}},
	{"core files", "core_dumps", Weak, "leaves its memory on disk, as core", func(p *patient) {
		p.plant(map[string]string{"/proc/sys/kernel/core_pattern": "core", "/proc/self/limits": "Max core file size  unlimited unlimited bytes\nMax locked memory unlimited unlimited bytes\n"})
	}},
	{"systemd-coredump", "core_dumps", Weak, "/var/lib/systemd/coredump", func(p *patient) {
		p.plant(map[string]string{"/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P", "/etc/systemd/coredump.conf": "[Coredump]\n#Storage=none\n"})
	}},
	{"apport", "core_dumps", Weak, "/var/crash", func(p *patient) {
		p.plant(map[string]string{"/proc/sys/kernel/core_pattern": "|/usr/share/apport/apport -p%p"})
	}},
	{"another helper", "core_dumps", Weak, "given to /opt/dump %p", func(p *patient) {
		p.plant(map[string]string{"/proc/sys/kernel/core_pattern": "|/opt/dump %p"})
	}},
	{"no Yama", "ptrace", Weak, "no Yama", func(p *patient) { os.RemoveAll(p.at("/proc/sys/kernel/yama")) }},
	{"Yama off", "ptrace", Weak, "ptrace_scope is 0", func(p *patient) { p.plant(map[string]string{"/proc/sys/kernel/yama/ptrace_scope": "0"}) }},
	{"little memory to lock", "memlock", Weak, "only 64 KiB", func(p *patient) {
		p.plant(map[string]string{"/proc/self/limits": "Max core file size 0 0 bytes\nMax locked memory         65536  65536 bytes\n"})
		p.unmounted()
	}},
	{"old kernel", "kernel", Broken, "older", func(p *patient) { p.plant(map[string]string{"/proc/sys/kernel/osrelease": "5.10.0-30"}) }},
	{"kernel without shared mappings", "kernel", Note, "mapped shared", func(p *patient) { p.plant(map[string]string{"/proc/sys/kernel/osrelease": "6.1.0-30"}) }},
	{"no kernel version", "kernel", Unknown, "not known", func(p *patient) { p.plant(map[string]string{"/proc/sys/kernel/osrelease": ""}) }},
	{"no FUSE", "fuse", Broken, "no /dev/fuse", func(p *patient) { os.Remove(p.at("/dev/fuse")) }},
	{"closed FUSE", "fuse", Broken, "mode 0600", func(p *patient) { p.mode("/dev/fuse", 0o600) }},
	{"fusermount3 in PATH only", "fusermount", Broken, "there is no fusermount3", func(p *patient) {
		p.env["PATH"] = "/opt/bin:/usr/bin"
		p.plant(map[string]string{"/opt/bin/fusermount3": ""})
		p.mode("/opt/bin/fusermount3", 0o755|os.ModeSetuid)
		os.Remove(p.at("/usr/bin/fusermount3"))
	}},
	{"helper unfit", "protections", Broken, "mount_helper", func(p *patient) { p.protection("mount_helper") }},
	{"memory not cleared", "protections", Note, "init_on_free", func(p *patient) { p.protection("init_on_free") }},
	{"memory perhaps not cleared", "protections", Unknown, "init_on_free: not known", func(p *patient) {
		p.Status.Protections = append(p.Status.Protections, lifecycle.Protection{Name: "init_on_free", Detail: "not known: it does not tell"})
	}},
	{"program not trusted", "protections", Weak, "program_trusted", func(p *patient) { p.protection("program_trusted") }},
	{"no fusermount3", "fusermount", Broken, "there is no fusermount3", func(p *patient) { os.Remove(p.at("/usr/bin/fusermount3")) }},
	{"no setuid", "fusermount", Broken, "not setuid", func(p *patient) { p.mode("/usr/bin/fusermount3", 0o755) }},
	{"confined fusermount3", "apparmor", Note, "AppArmor confines", func(p *patient) {
		p.plant(map[string]string{"/sys/module/apparmor/parameters/enabled": "Y", "/etc/apparmor.d/fusermount3": "profile"})
		p.unmounted()
	}},
	{"root reads all", "sys_admin_access", Weak, "allow_sys_admin_access", func(p *patient) {
		p.plant(map[string]string{"/sys/module/fuse/parameters/allow_sys_admin_access": "Y"})
	}},
	{"no runtime directory", "runtime_dir", Broken, "does not exist", func(p *patient) {
		p.Nowhere = errors.New("/run/user/1000 does not exist: log in")
	}},
	{"open runtime directory", "runtime_dir", Broken, "kept out", func(p *patient) { p.mode("/run/user/1000", 0o755) }},
	{"somebody else's runtime directory", "runtime_dir", Broken, "not yours", func(p *patient) { p.UID++ }},
	{"runtime directory on disk", "runtime_dir", Note, "is on ext4", func(p *patient) {
		p.plant(map[string]string{"/proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda2 rw\n"})
	}},
	{"unset runtime directory", "runtime_dir", Note, "is not set", func(p *patient) {
		if p.UID != uid {
			p.Skip("NOT RUN: /run/user/1000 is not of who runs the tests")
		}
		delete(p.env, "XDG_RUNTIME_DIR")
	}},
	{"lingering", "logins", Weak, "you linger", func(p *patient) {
		p.plant(map[string]string{"/var/lib/systemd/linger/u": ""})
		p.unmounted()
	}},
	{"nobody follows logins", "logins", Weak, "nobody follows", func(p *patient) { p.Status.Session.Follows = false }},
}

func TestHealthy(t *testing.T) {
	p := newPatient(t)
	if r := Examine(p.Machine); len(r.Findings) > 0 || len(r.Checks) != len(checks) {
		t.Errorf("%+v", r)
	}
	// What protects well is not an illness.
	p.plant(map[string]string{
		"/proc/swaps":                   "Filename\n/enc/swapfile file 1 0 -2\n",
		"/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P", "/etc/systemd/coredump.conf.d/off.conf": "[Coredump]\nStorage=none\n",
		"/home/u/.npmrc": "registry=https://r/\n", "/home/u/.IdentityService/msal.cache.lockfile": fmt.Sprint(os.Getpid()),
	})
	for _, f := range Examine(p.Machine).Findings {
		if f.Check != "plaintext" { // of the lock file's directory, see below
			t.Errorf("%+v", f)
		}
	}
	p.plant(map[string]string{"/proc/swaps": "Filename\n/dev/sda2 partition 1 0 -2\n"})
	p.Status.Protections = append(p.Status.Protections, lifecycle.Protection{Name: "secretmem", Active: true})
	p.protection("init_on_free")
	if r := Examine(p.Machine); slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Check == "hibernation" || f.Check == "protections" }) {
		t.Errorf("with secretmem it cannot hibernate, and the kernel clears its pages: %+v", r.Findings)
	}
}

func TestEveryFinding(t *testing.T) {
	seen := make(map[string]bool)
	for _, ill := range illnesses {
		t.Run(ill.name, func(t *testing.T) {
			p := newPatient(t)
			ill.plant(p)
			r := Examine(p.Machine)
			var found *Finding
			for i, f := range r.Findings {
				if f.Check == ill.check && f.Severity == ill.severity && strings.Contains(f.Text, ill.text) {
					found = &r.Findings[i]
				}
				if i > 0 && f.Severity < r.Findings[i-1].Severity {
					t.Errorf("out of order: %+v", r.Findings)
				}
				if f.Remedy == "" || f.Text == "" {
					t.Errorf("no remedy: %+v", f)
				}
			}
			if found == nil {
				t.Fatalf("not found; findings: %+v", r.Findings)
			}
			seen[ill.check] = true
		})
	}
	for _, c := range checks {
		if !seen[c.name] {
			t.Errorf("no test has seen a finding of the check %s", c.name)
		}
	}
}

func TestReportFieldNames(t *testing.T) {
	line, err := json.Marshal(Report{FormatVersion: ReportVersion, Findings: []Finding{{Severity: Weak}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{`"format_version":1`, `"checks"`, `"findings"`, `"check"`, `"severity":"weak"`, `"text"`, `"remedy"`} {
		if !strings.Contains(string(line), name) {
			t.Errorf("%s is missing from %s", name, line)
		}
	}
}
