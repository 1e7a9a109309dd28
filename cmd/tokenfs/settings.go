package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tokenfs/cmd/internal/conf"
	"tokenfs/crypt"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/run"
	"tokenfs/lifecycle/session"
)

// settings are what flags, environment and files have in common.
type settings struct {
	mountpoint string // empty: the default one
	size       int64
	inodes     int
	secretmem  crypt.Secretmem
	plainSaves bool
	options    []string
	atLogout   session.AtLogout
	rootLogins bool
	login      bool // only on the command line
	leader     int  // as is this
	private    run.Private
}

// Limits of settings. The smallest size leaves room for the rewrite of a cache
// that may be 1 MiB; every inode that is a file needs a slot for its key.
const (
	minSize, maxSize     = 1 << 20, 16 << 30
	minInodes, maxInodes = 16, 1 << 20
)

// keys of settings: in files as they are, in the environment in capitals with
// TOKENFS_ before them, and _ for -.
var keys = map[string]func(s *settings, value string) error{
	"mountpoint": func(s *settings, value string) (err error) { s.mountpoint, err = parsePath(value); return err },
	"size":       func(s *settings, value string) (err error) { s.size, err = parseSize(value); return err },
	"inodes":     func(s *settings, value string) (err error) { s.inodes, err = parseInodes(value); return err },
	"secretmem":  func(s *settings, value string) (err error) { s.secretmem, err = parseSecretmem(value); return err },
	"whole-saves": func(s *settings, value string) (err error) {
		s.plainSaves, err = parseChoice(value, "on", "off")
		return err
	},
	"on-logout": func(s *settings, value string) (err error) {
		s.atLogout.Keep, err = parseChoice(value, "wipe", "keep")
		return err
	},
	"grace": func(s *settings, value string) (err error) { s.atLogout.Grace, err = parseGrace(value); return err },
	"root-logins": func(s *settings, value string) (err error) {
		s.rootLogins, err = parseChoice(value, "off", "on")
		return err
	},
	"private": func(s *settings, value string) (err error) { s.private, err = parsePrivate(value); return err },
	"options": func(s *settings, value string) error {
		s.options = []string{value}
		return mount.CheckOptions(s.options)
	},
}

func defaults() settings {
	return settings{size: lifecycle.DefaultSize, inodes: lifecycle.DefaultInodes,
		atLogout: session.AtLogout{Grace: session.DefaultGrace}}
}

// loadSettings reads what is not on the command line. Sources are applied in
// reverse, so that the first one decides; a mistake in any of them is reported
// even where another one overrides it, and all else that they say is taken.
func loadSettings() (settings, error) {
	s := defaults()
	files := []string{"/etc/tokenfs/config"}
	if dir, err := os.UserConfigDir(); err == nil { // no home, no file
		files = append(files, filepath.Join(dir, "tokenfs", "config"))
	}
	var mistakes []error
	for _, path := range files {
		mistakes = append(mistakes, s.loadFile(path))
	}
	return s, errors.Join(append(mistakes, s.loadEnv(os.Environ())...)...)
}

func (s *settings) set(source, key, value string) error {
	with := *s // what is refused leaves nothing behind
	if err := keys[key](&with, value); err != nil {
		return usageErrorf("%s: %v", source, err)
	}
	*s = with
	return nil
}

func (s *settings) loadFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return usageErrorf("settings: %v", err)
	}
	defer f.Close()
	return s.parse(f, path)
}

// parse takes what a file sets; see package conf. The first mistake is reported:
// what is no such file at all has one in every line.
func (s *settings) parse(r io.Reader, name string) (first error) {
	mistake := func(err error) { first = cmp.Or(first, err) }
	seen := make(map[string]int)
	for _, l := range conf.Read(r) {
		source := fmt.Sprintf("%s:%d", name, l.Number)
		switch {
		case l.Err != nil:
			mistake(usageErrorf("%s: %w", source, l.Err))
		case keys[l.Key] == nil:
			mistake(usageErrorf("%s: unknown key %q%s: there are %s", source, l.Key, didYouMean(l.Key, slices.Collect(maps.Keys(keys))), keyNames()))
		case seen[l.Key] != 0:
			mistake(usageErrorf("%s: %s was set in line %d already", source, l.Key, seen[l.Key]))
		default:
			seen[l.Key] = l.Number
			mistake(s.set(source+": "+l.Key, l.Key, l.Value))
		}
	}
	return first
}

const envPrefix = "TOKENFS_"

func (s *settings) loadEnv(env []string) (mistakes []error) {
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		key, ok := strings.CutPrefix(name, envPrefix)
		if !ok || value == "" { // empty is as good as not set
			continue
		}
		key = strings.ToLower(strings.ReplaceAll(key, "_", "-"))
		if keys[key] == nil || name != envName(key) {
			// Not an error: scripts have variables of their own.
			complainf("warning: %s in the environment is not a setting: there are %s", name, keyNames())
			continue
		}
		mistakes = append(mistakes, s.set(name, key, value))
	}
	return mistakes
}

func envName(key string) string {
	return envPrefix + strings.ReplaceAll(strings.ToUpper(key), "-", "_")
}

func keyNames() string {
	var names []string
	for key := range keys {
		names = append(names, key)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// parsePath takes ~ for the home directory, as a shell would.
func parsePath(text string) (string, error) {
	path := text
	if rest, ok := strings.CutPrefix(text, "~"); ok && (rest == "" || rest[0] == '/') {
		path = os.Getenv("HOME") + rest
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", text)
	}
	return path, nil
}

// parseSize reads bytes, with K, M or G for powers of 1024. Room is given in
// whole blocks.
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	if i := strings.IndexAny(text, "kKmMgG"); i >= 0 && i == len(text)-1 {
		digits, shift = text[:i], map[byte]int{'k': 10, 'm': 20, 'g': 30}[text[i]|0x20]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: give bytes, or 64K, 16M, 1G", text)
	}
	if n < (minSize+1<<shift-1)>>shift || n > maxSize>>shift {
		return 0, fmt.Errorf("%s is not between 1M and 16G", text)
	}
	const block = 4096
	return (int64(n)<<shift + block - 1) / block * block, nil
}

func parseInodes(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < minInodes || n > maxInodes {
		return 0, fmt.Errorf("%q is not a number between %d and %d", text, minInodes, maxInodes)
	}
	return int(n), nil
}

var secretmemModes = map[string]crypt.Secretmem{
	"auto": crypt.SecretmemAuto,
	"on":   crypt.SecretmemOn,
	"off":  crypt.SecretmemOff,
}

func parseSecretmem(text string) (crypt.Secretmem, error) {
	mode, ok := secretmemModes[text]
	if !ok {
		return 0, fmt.Errorf("%q is not auto, on or off", text)
	}
	return mode, nil
}

// parseChoice says whether it is the second of two words.
func parseChoice(text, first, second string) (bool, error) {
	if text != first && text != second {
		return false, fmt.Errorf("%q is not %s or %s", text, first, second)
	}
	return text == second, nil
}

// parseTime takes days, too.
func parseTime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}

func parseGrace(text string) (time.Duration, error) {
	d, err := parseTime(text)
	if err != nil || d < 0 || d > session.MaxHold {
		return 0, fmt.Errorf("%q is not a time from 0s to 720h: give 30s, 5m or 1h30m", text)
	}
	return d, nil
}

func parsePrivate(text string) (run.Private, error) {
	mode, ok := map[string]run.Private{
		"auto":    run.PrivateAuto,
		"require": run.PrivateRequire,
		"off":     run.PrivateOff,
	}[text]
	if !ok {
		return 0, fmt.Errorf("%q is not auto, require or off", text)
	}
	return mode, nil
}

// parseFlags parses a verb's command line, on which at most n arguments
// (n < 0: any number) may follow the flags.
func parseFlags(flags *pflag.FlagSet, args []string, n int) error {
	flags.Usage = func() {}
	flags.SetOutput(io.Discard)
	flags.SortFlags = false
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) { // which would say it in Go's words
		return usageErrorf("%s: --%s cannot be %q: run tokenfs help %s", flags.Name(), invalid.GetFlag().Name, invalid.GetValue(), flags.Name())
	}
	if err != nil {
		return usageErrorf("%s: %w%s: run tokenfs help %s", flags.Name(), err, meantFlag(flags, err), flags.Name())
	}
	if n >= 0 && flags.NArg() > n {
		return usageErrorf("%s: unexpected argument %q: run tokenfs help %s", flags.Name(), flags.Arg(n), flags.Name())
	}
	return nil
}

// meantFlag proposes a flag for one that there is not.
func meantFlag(flags *pflag.FlagSet, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return didYouMean("--"+unknown.GetSpecifiedName(), names)
}

// newFlags makes a flag set with the one flag that all verbs on a filesystem
// have.
func newFlags(verb string) (flags *pflag.FlagSet, mountpoint *string) {
	flags = pflag.NewFlagSet(verb, pflag.ContinueOnError)
	return flags, flags.String("mountpoint", "", "")
}

// where finds the mountpoint that a verb is about: the one named on the command
// line, else the one set, else the default one.
func where(flags *pflag.FlagSet, named string, set settings) (path string, err error) {
	switch {
	case flags.Changed("mountpoint") && named == "":
		return "", usageErrorf("%s: the mountpoint named is empty", flags.Name())
	case named != "":
		path = named
	case set.mountpoint != "":
		path = set.mountpoint
	default:
		if path, err = mount.DefaultMountpoint(); err != nil {
			return "", err
		}
	}
	return mount.Canonical(path)
}

// whichMount is where for verbs that need no other setting: what the files and
// the environment have wrong is told, and does not keep anybody from wiping.
func whichMount(flags *pflag.FlagSet, named string) (string, error) {
	var s settings
	if !flags.Changed("mountpoint") {
		var err error
		if s, err = loadSettings(); err != nil {
			warn(err)
		}
	}
	return where(flags, named, s)
}
