package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// build builds the command and writes its manual.
func build(t *testing.T) (program, dir string, c command) {
	t.Helper()
	program, dir = filepath.Join(t.TempDir(), "tokenfs"), t.TempDir()
	cmd := exec.Command("go", "build", "-o", program, "tokenfs/cmd/tokenfs")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build tokenfs: %v\n%s", err, out)
	}
	if err := write(program, dir); err != nil {
		t.Fatal(err)
	}
	c, err := ask(program)
	if err != nil {
		t.Fatal(err)
	}
	return program, dir, c
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The help, and with it everything made of it, tells of the flags that there
// are, and of no others.
func TestHelpAgreesWithTheProgram(t *testing.T) {
	program, _, c := build(t)
	told := map[string]bool{}
	for _, v := range c.verbs {
		if len(v.flags) == 0 && v.name != "version" {
			t.Errorf("%s: no flags were found in its help", v.name)
		}
		for _, f := range v.flags {
			told[f.long] = true
			given := "--" + f.long
			if f.long == "" {
				given = "-" + f.short
			}
			if f.value != "" {
				given += "=x"
			}
			// The second one is what keeps this from doing anything.
			out, err := exec.Command(program, v.name, given, "--no-such-flag").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "unknown flag: --no-such-flag") {
				t.Errorf("%s %s: %v: %s", v.name, given, err, out)
			}
		}
	}
	sources, err := filepath.Glob("../../cmd/tokenfs/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	defined := regexp.MustCompile(`flags\.(?:Bool|String|StringArray|Int|Duration)P?\("([a-z-]+)"`)
	found := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		for _, m := range defined.FindAllStringSubmatch(read(t, source), -1) {
			found++
			// Some the command gives to itself only.
			if hidden := strings.Contains(read(t, source), `MarkHidden("`+m[1]+`")`); !told[m[1]] && !hidden {
				t.Errorf("%s: no help tells of --%s: do so in usage.go, or hide it (MarkHidden)", source, m[1])
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d definitions of flags found in %d sources", found, len(sources))
	}
}

func TestPages(t *testing.T) {
	_, dir, c := build(t)
	page := read(t, dir+"/man/man1/tokenfs.1")
	for _, v := range c.verbs {
		if !strings.Contains(page, "\n.SS "+v.name+"\n") {
			t.Errorf("tokenfs(1) does not tell of %s", v.name)
		}
		for _, f := range v.flags {
			if f.long != "" && !strings.Contains(page, escape("--"+f.long)) {
				t.Errorf("tokenfs(1) does not tell of %s --%s", v.name, f.long)
			}
		}
	}
	// Nothing that the help says is lost on the way.
	unescaped := strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(page)
	for _, v := range c.verbs {
		for word := range strings.FieldsSeq(v.help) {
			if word != "usage:" && !strings.Contains(strings.ToLower(unescaped), strings.ToLower(word)) {
				t.Errorf("tokenfs(1) lacks %q of %s", word, v.name)
			}
		}
	}
	if settings := read(t, dir+"/man/man5/tokenfs.conf.5"); !strings.Contains(settings, "TOKENFS_SIZE") {
		t.Error("tokenfs.conf(5) does not tell of TOKENFS_SIZE")
	}
	// Every directive of the unit is told of, and every word of what is said of it.
	unescaped = read(t, dir+"/man/man7/tokenfs.service.7")
	unescaped = strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(unescaped)
	for line := range strings.Lines(read(t, "../systemd/tokenfs.service")) {
		if line = strings.TrimSpace(strings.TrimPrefix(line, "#")); !strings.Contains(unescaped, line) {
			t.Errorf("tokenfs.service(7) lacks %q", line)
		}
	}
	if pam := read(t, dir+"/man/man8/tokenfs-pam.8"); !strings.Contains(pam, "as the user") || !strings.Contains(pam, ".IP") {
		t.Error("tokenfs-pam(8) does not tell how it goes about it")
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("NOT RUN: that groff finds nothing wrong with the pages: install groff")
	}
	for _, file := range []string{"/man/man1/tokenfs.1", "/man/man5/tokenfs.conf.5", "/man/man7/tokenfs.service.7", "/man/man8/tokenfs-pam.8"} {
		out, err := exec.Command("groff", "-man", "-Tascii", "-ww", "-z", dir+file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("groff %s: %v: %s", file, err, out)
		}
	}
}

func TestBashCompletion(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("NOT RUN: no bash")
	}
	_, dir, _ := build(t)
	for line, want := range map[string]string{
		"tokenfs mou":                 "mount",
		"tokenfs mount --sec":         "--secretmem",
		"tokenfs mount --secretmem o": "on off",
		"tokenfs help exit":           "exit-codes",
		"tokenfs status --js":         "--json",
		"tokenfs mount --on-logout ":  "wipe keep",
	} {
		words := strings.Split(line, " ")
		script := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tokenfs; echo "${COMPREPLY[*]}"`
		out, err := exec.Command("bash", append([]string{"-c", script, "bash", dir + "/bash-completion/completions/tokenfs"}, words...)...).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%q is completed by %q (%v), want %q", line, out, err, want)
		}
	}
}

// fish completes for whoever asks.
func TestFishCompletion(t *testing.T) {
	fish := shell(t, "fish")
	_, dir, _ := build(t)
	file := dir + "/fish/vendor_completions.d/tokenfs.fish"
	for line, want := range map[string]string{
		"tokenfs mou":                 "mount",
		"tokenfs mount --sec":         "--secretmem",
		"tokenfs mount --secretmem o": "off on",
		"tokenfs help exit":           "exit-codes",
		"tokenfs status --js":         "--json",
		"tokenfs mount --on-logout ":  "keep wipe",
	} {
		out := fish("--no-config", "-c", `source $argv[1]; and complete -C $argv[2]`, file, line)
		var got []string
		for candidate := range strings.Lines(out) {
			// What it does follows a tab.
			word, _, _ := strings.Cut(strings.TrimSpace(candidate), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q is completed by %q, want %q", line, out, want)
		}
	}
}

// zsh completes what is typed on a terminal: an inner shell has one, and is asked
// for what then stands there by a key of its own.
func TestZshCompletion(t *testing.T) {
	zsh := shell(t, "zsh")
	_, dir, _ := build(t)
	rc := `
fpath=(` + dir + `/zsh/site-functions $fpath)
autoload -Uz compinit && compinit -D -u
show() { print -r -- "<$BUFFER>"; exit }
zle -N show
bindkey '^T' show
bindkey '^I' complete-word
PS1=READY
`
	if err := os.WriteFile(dir+"/.zshrc", []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	typing := `
zmodload zsh/zpty
export ZDOTDIR=$1 TERM=dumb
zpty inner zsh -d -i
zpty -r inner shown '*READY*'
zpty -w -n inner "$2"$'\t\C-t'
zpty -r inner shown '*<*>*'
print -r -- "$shown"
`
	for line, want := range map[string]string{
		"tokenfs mou":                  "tokenfs mount ",
		"tokenfs mount --sec":          "tokenfs mount --secretmem ",
		"tokenfs mount --secretmem of": "tokenfs mount --secretmem off ",
		"tokenfs help exi":             "tokenfs help exit-codes ",
		"tokenfs status --js":          "tokenfs status --json ",
		"tokenfs mount --on-logout w":  "tokenfs mount --on-logout wipe ",
		"tokenfs nonsense --js":        "tokenfs nonsense --js",
	} {
		if out := zsh("-d", "-f", "-c", typing, "zsh", dir, line); !strings.Contains(out, "<"+want+">") {
			t.Errorf("%q is completed by %q, want %q", line, out, want)
		}
	}
}

// shell runs a shell in a home without settings, where there is one.
func shell(t *testing.T, name string) func(args ...string) string {
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("NOT RUN: no %s", name)
	}
	home := t.TempDir()
	return func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "XDG_CACHE_HOME="+home)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
}
