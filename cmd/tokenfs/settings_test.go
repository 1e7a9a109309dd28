package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"tokenfs/crypt"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/run"
	"tokenfs/lifecycle/session"
)

// wantUsage checks that err is about the command line or a setting, and says
// each of the words.
func wantUsage(t *testing.T, err error, words ...string) {
	t.Helper()
	var usage *usageError
	if !errors.As(err, &usage) {
		t.Fatalf("%v is not about usage", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"1M": 1 << 20, "1m": 1 << 20, "1024K": 1 << 20, "1048576": 1 << 20, "64M": 64 << 20, "16G": 16 << 30,
		"1048577": 1<<20 + 4096, "1234567": 302 * 4096, // whole blocks
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "M", "1MB", "1.5M", "-1M", "+1M", " 1M", "0", "1023K", "1048575", "17G", "16385M", "99999999999999999999", "18014398509481985K", "1T", "0x100000"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestSettingsFile(t *testing.T) {
	var s settings
	err := s.parse(strings.NewReader("# comment\n\nsize = 16M\n  inodes=100\nsecretmem = no # off\n"), "f")
	wantUsage(t, err, "f:5: secretmem", `"no"`, "auto, on or off")
	s = settings{}
	if err := s.parse(strings.NewReader("#comment\n\nsize = 16M # room\n  inodes=100 \nsecretmem =\"off\"\nmountpoint = /a b/c\noptions = noexec,ro\r\non-logout=keep\ngrace = 1m30s\nroot-logins = on\nprivate=require\n"), "f"); err != nil {
		t.Fatal(err)
	}
	want := settings{mountpoint: "/a b/c", size: 16 << 20, inodes: 100, secretmem: crypt.SecretmemOff, options: []string{"noexec,ro"},
		atLogout: session.AtLogout{Keep: true, Grace: 90 * time.Second}, rootLogins: true, private: run.PrivateRequire}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("parsed %+v, want %+v", s, want)
	}
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"unknown key":         {"size = 1M\nsise = 2M\n", []string{"f:2", `unknown key "sise" (did you mean size?)`, "grace, inodes, mountpoint, on-logout, options, private, root-logins, secretmem, size"}},
		"no value":            {"\nsize\n", []string{"f:2", "key = value"}},
		"twice":               {"size = 1M\n#\nsize = 2M", []string{"f:3", "set in line 1"}},
		"bad size":            {"size = 1 M", []string{"f:1", `"1 M" is not a size`}},
		"too small":           {"size = 4096", []string{"f:1: size", "between 1M and 16G"}},
		"bad inodes":          {"inodes = many", []string{"f:1: inodes", `"many"`}},
		"relative mountpoint": {"mountpoint = a/b", []string{"f:1: mountpoint", "not an absolute path"}},
		"option of root's":    {"options = suid", []string{"f:1: options", "refused"}},
		"bad grace":           {"grace = soon", []string{"f:1: grace", `"soon" is not a time`}},
		"negative grace":      {"grace = -1s", []string{"f:1: grace"}},
		"bad on-logout":       {"on-logout = forget", []string{"f:1: on-logout", "wipe or keep"}},
		"too long a line":     {"# " + strings.Repeat("x", 1<<17), []string{"f:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s settings
			wantUsage(t, s.parse(strings.NewReader(c.text), "f"), c.words...)
		})
	}
}

func TestSettingsPrecedence(t *testing.T) {
	if _, err := os.Stat("/etc/tokenfs/config"); err == nil {
		t.Skip("NOT RUN: this machine has an /etc/tokenfs/config")
	}
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", home)
	if s, err := loadSettings(); err != nil || s.size != lifecycle.DefaultSize || s.inodes != lifecycle.DefaultInodes {
		t.Errorf("defaults are %+v, %v", s, err)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(home+"/.config/tokenfs/config", "size = 2M\ninodes = 200\n")
	t.Setenv("TOKENFS_INODES", "300")
	t.Setenv("TOKENFS_ON_LOGOUT", "keep")
	if s, err := loadSettings(); err != nil || s.size != 2<<20 || s.inodes != 300 || !s.atLogout.Keep || s.atLogout.Grace != 10*time.Second {
		t.Errorf("file and environment make %+v, %v", s, err)
	}
	// A mistake is one even where something else decides.
	write(home+"/.config/tokenfs/config", "inodes = lots\n")
	s, err := loadSettings()
	wantUsage(t, err, home+"/.config/tokenfs/config:1")
	if s.inodes != 300 {
		t.Errorf("it keeps from what else is said: %+v", s)
	}
	t.Setenv("TOKENFS_GRACE", "soon")
	_, err = loadSettings()
	wantUsage(t, err, home+"/.config/tokenfs/config:1", "TOKENFS_GRACE")
	t.Setenv("TOKENFS_GRACE", "1s")

	write(home+"/xdg/tokenfs/config", "size = 3M\n")
	t.Setenv("XDG_CONFIG_HOME", home+"/xdg")
	if s, err := loadSettings(); err != nil || s.size != 3<<20 {
		t.Errorf("XDG_CONFIG_HOME makes %+v, %v", s, err)
	}
	t.Setenv("TOKENFS_INODES", "3")
	_, err = loadSettings()
	wantUsage(t, err, "TOKENFS_INODES", "between 16 and 1048576")
}

func TestSettingsReachTheDaemon(t *testing.T) {
	s := settings{mountpoint: "/m x", size: 5 << 20, inodes: 99, secretmem: crypt.SecretmemOn, plainSaves: true, options: []string{"noexec", "ro"},
		atLogout: session.AtLogout{Keep: true, Grace: time.Minute}, rootLogins: true}
	args := s.daemonArgs("/home/a b/apps.json")
	if args[0] != "tokenfs" || args[1] != "mount" {
		t.Fatalf("%q", args)
	}
	flags, _ := newFlags("mount")
	flags.Bool("foreground", false, "")
	settled := flags.Bool("settled", false, "")
	linked := flags.String("apps", "", "")
	got := settings{mountpoint: args[len(args)-1]}
	for _, key := range []string{"size", "inodes", "secretmem", "whole-saves", "options", "on-logout", "grace", "root-logins"} {
		flags.Func(key, "", func(v string) error { return got.set(key, key, v) })
	}
	if err := parseFlags(flags, args[2:], 1); err != nil {
		t.Fatal(err)
	}
	if *linked != "/home/a b/apps.json" || !*settled {
		t.Errorf("list of linked apps: %q, settled %v", *linked, *settled)
	}
	s.options = []string{"noexec,ro"} // the same in one piece
	if !reflect.DeepEqual(got, s) {
		t.Errorf("the daemon gets %+v, want %+v", got, s)
	}
}

// What the file that packages install shows is what can be set.
func TestInstalledConfig(t *testing.T) {
	b, err := os.ReadFile("../../packaging/config")
	if err != nil {
		t.Fatal(err)
	}
	var active []string
	for line := range strings.Lines(string(b)) {
		if setting, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(setting, " ") {
			active = append(active, setting)
		}
	}
	var s settings
	if err := s.parse(strings.NewReader(strings.Join(active, "")), "config"); err != nil || len(active) < 8 {
		t.Errorf("%d settings: %v", len(active), err)
	}
	if s.size != lifecycle.DefaultSize || s.inodes != lifecycle.DefaultInodes {
		t.Errorf("it shows other defaults than there are: %+v", s)
	}
}

func TestMountpointBelowHome(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	for in, want := range map[string]string{"~": "/home/u", "~/run/tokenfs": "/home/u/run/tokenfs", "/~/x": "/~/x"} {
		if got, err := parsePath(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "run", "~other/x", "./x"} {
		if got, err := parsePath(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// Every example that a page shows between fences can be read by what it is for.
func TestExamplesInPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 4 {
		t.Fatal(pages, err)
	}
	fence := regexp.MustCompile("(?ms)^```(.*?)\n(.*?)^```$")
	seen := map[string]int{}
	for _, page := range append(pages, "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			language, example := m[1], m[2]
			seen[language]++
			var err error
			switch language {
			case "conf": // tokenfs.conf(5)
				err = new(settings).parse(strings.NewReader(example), "example")
			case "sh":
				err = shellReads(example)
			case "json": // the middle of a file
				if !json.Valid([]byte("{" + example + "}")) {
					err = errors.New("not JSON")
				}
			case "ini": // systemd's
				for line := range strings.Lines(example) {
					if !regexp.MustCompile(`^(\[\w+\]|\w+=.*|#.*)?\n$`).MatchString(line) {
						err = fmt.Errorf("line %q", line)
					}
				}
			case "pam":
				for line := range strings.Lines(example) {
					if !regexp.MustCompile(`^(session|auth|account) +\w+ +pam_\w+\.so( .*)?\n$`).MatchString(line) {
						err = fmt.Errorf("line %q", line)
					}
				}
			case "dockerfile":
				for line := range strings.Lines(example) {
					if !regexp.MustCompile(`^([A-Z]+ .*|#.*)?\n$`).MatchString(line) {
						err = fmt.Errorf("line %q", line)
					}
				}
			case "text": // verbs, and what they do
				for line := range strings.Lines(example) {
					if f := strings.Fields(line); len(f) < 3 || f[0] != "tokenfs" || verbs[f[1]] == nil {
						err = fmt.Errorf("line %q", line)
					}
				}
			case "mermaid":
			default:
				err = errors.New("nobody knows how to read this kind")
			}
			if err != nil {
				t.Errorf("%s: ```%s\n%s: %v", page, language, example, err)
			}
		}
	}
	if seen["conf"] == 0 || seen["sh"] < 10 {
		t.Errorf("examples seen: %v", seen)
	}
}

// shellReads has a shell read commands; where some begin with $, the rest is what
// they say.
func shellReads(example string) error {
	if strings.Contains("\n"+example, "\n$ ") {
		var commands strings.Builder
		for line := range strings.Lines(example) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands.WriteString(command)
			}
		}
		example = commands.String()
	}
	if out, err := exec.Command("bash", "-n", "-c", example).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// FuzzSettings: whatever a file says, what is taken is within bounds, and what
// is not is told in a line.
func FuzzSettings(f *testing.F) {
	f.Add("# comment\nsize = 16M\ninodes=100\nsecretmem = off # no\n")
	f.Add("mountpoint = /a b/c\noptions = noexec,ro\r\non-logout=keep\ngrace = 1m30s\nroot-logins = on\nprivate=require")
	f.Add("inodes = x\nsize = 1T\noptions = suid\ngrace = soon")
	f.Add("\ufeffsize = \"16M\"\nmountpoint = '~/x'\n=\nsize = 1G\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		s := settings{size: minSize, inodes: minInodes}
		err := s.parse(strings.NewReader(text), "f")
		var usage *usageError
		if err != nil && (!errors.As(err, &usage) || !strings.HasPrefix(err.Error(), "f:")) {
			t.Fatalf("error %v", err)
		}
		if s.size < minSize || s.size > maxSize || s.size%4096 != 0 || s.inodes < minInodes || s.inodes > maxInodes {
			t.Fatalf("size %d, inodes %d", s.size, s.inodes)
		}
		if s.mountpoint != "" && !filepath.IsAbs(s.mountpoint) {
			t.Fatalf("mountpoint %q", s.mountpoint)
		}
		if s.atLogout.Grace < 0 || s.atLogout.Grace > session.MaxHold {
			t.Fatalf("grace %v", s.atLogout.Grace)
		}
		if err == nil {
			if err := mount.CheckOptions(s.options); err != nil {
				t.Fatalf("options %q: %v", s.options, err)
			}
		}
	})
}
