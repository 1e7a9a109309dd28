package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tokenfs/cmd/internal/printable"
	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/fault"
)

func appsVerb(args []string) error {
	flags, named := newFlags("apps")
	asJSON := flags.Bool("json", false, "")
	if err := parseFlags(flags, args, -1); err != nil {
		return err
	}
	if *asJSON && flags.NArg() > 0 {
		return usageErrorf("apps: --json tells of all apps: leave out %s", flags.Arg(0))
	}
	e, err := engineFor(flags, *named)
	if err != nil && !flags.Changed("mountpoint") { // what is known does not depend on a place
		e, err = newEngine(fmt.Sprintf("/run/user/%d/tokenfs", os.Geteuid()))
	}
	if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return printKnown(e, flags.Args())
	}
	r, err := e.Survey()
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(r)
	}
	printApps(r, e.Dirs)
	return nil
}

// printApps shows what there is first, and says in one line what there is not.
func printApps(r apps.Report, dirs apps.Dirs) {
	out := newTable()
	out.line("app\tlinked\ton disk in plain sight\tto run")
	var absent []string
	for _, a := range r.Apps {
		if !a.Installed && !a.Linked && len(a.Plaintext) == 0 && a.Run == "" {
			absent = append(absent, a.Name)
			continue
		}
		linked := "no"
		if a.Linked {
			linked = "yes"
		}
		for _, p := range a.Places {
			if p.Broken != "" {
				linked = "BROKEN"
			} else if p.Linked && !a.Linked && linked != "BROKEN" {
				linked = "in part"
			}
		}
		plain := "-"
		if n := len(a.Plaintext); n > 0 {
			plain = printable.Name(dirs.Contract(a.Plaintext[0]))
			if n > 1 {
				plain += fmt.Sprintf(" and %d more", n-1)
			}
		}
		out.line("%s\t%s\t%s\t%s", printable.Name(a.Name), linked, plain, a.Run)
	}
	out.flush()
	for _, a := range r.Apps {
		for _, name := range a.Replaced {
			printf("\n%s: %s was replaced, and ends with the session; tokenfs link puts it back to disk\n", a.Name, dirs.Contract(name))
		}
		for _, name := range a.Suspects {
			printf("\n%s: %s looks like a secret, and stays on disk\n", a.Name, dirs.Contract(name))
		}
	}
	if len(absent) > 0 {
		printf("\nnot installed: %s\n", strings.Join(absent, ", "))
	}
}

// printKnown shows what the table has of apps.
func printKnown(e *apps.Engine, names []string) error {
	for i, name := range names {
		a, err := e.Find(name)
		if err != nil {
			return usageErrorf("apps: %w", err)
		}
		if i > 0 {
			printf("\n")
		}
		out := newTable()
		line := func(what, format string, args ...any) { out.line(what+"\t"+format, args...) }
		line("app", "%s: %s", a.Name, a.Title)
		for _, p := range a.Places {
			line("place", "%s, which becomes %s", filepath.Join(p.Dir, p.File), filepath.Join(e.Mountpoint, p.Name, p.File))
			for _, s := range p.Secrets {
				line("  secret", "%s (%s): %s", s.Pattern, s.Class, s.What)
			}
			if len(p.Keep) > 0 {
				line("  on disk", "%s", strings.Join(p.Keep, " "))
			}
			if locks := slices.Concat(p.Locks, p.Flocks); len(locks) > 0 {
				line("  locks", "%s", strings.Join(locks, " "))
			}
		}
		for _, v := range e.Variables(a) {
			line("variable", "%s=%s", v.Name, v.Value)
		}
		for _, s := range a.Settings {
			line("why", "%s=%s: %s", s.Variable, s.Value, s.Why)
		}
		if a.Login != "" {
			line("login", "%s", a.Login)
		}
		if a.Since != "" {
			line("versions", "%s", a.Since)
		}
		for _, q := range a.Quirks {
			line("note", "%s", q)
		}
		for _, source := range a.Sources {
			line("source", "%s", source)
		}
		out.flush()
	}
	return nil
}

// newEngine is about the filesystem at a mountpoint, be it mounted or not.
func newEngine(mountpoint string) (*apps.Engine, error) {
	dirs, err := apps.FindDirs(os.Getenv)
	if err != nil {
		return nil, usageErrorf("%v", err)
	}
	st, err := lifecycle.Query(mountpoint)
	return &apps.Engine{
		Dirs: dirs, Mountpoint: mountpoint, Mounted: err == nil,
		SetSkeleton: func(folders []folder) error { return lifecycle.SetSkeleton(mountpoint, folders) },
		Wipe:        func(path string) error { return wipeOne(mountpoint, path) },
		Result:      func(format string, args ...any) { printf(format+"\n", args...) },
		Say:         complainf,
		Getenv:      os.Getenv,
		Private:     st.Mount.Private,
		IsMounted: func(mountpoint string) bool {
			_, err := lifecycle.Query(mountpoint)
			return fault.KindOf(err) != fault.NotMounted || err == nil
		},
	}, nil
}

func wipeOne(mountpoint, path string) error {
	_, failed, err := lifecycle.WipePaths(mountpoint, []string{path})
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("%s", failed[0].Error)
	}
	return err
}
