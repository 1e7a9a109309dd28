package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
)

func appsVerb(args []string) error {
	flags, named := newFlags("apps")
	asJSON := flags.Bool("json", false, "")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	e, err := engineFor(flags, *named)
	if err != nil {
		return err
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
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "app\tlinked\ton disk in plain sight\tto run")
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
			plain = fileName(dirs.Contract(a.Plaintext[0]))
			if n > 1 {
				plain += fmt.Sprintf(" and %d more", n-1)
			}
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", fileName(a.Name), linked, plain, a.Run)
	}
	out.Flush()
	if len(absent) > 0 {
		printf("\nnot installed: %s\n", strings.Join(absent, ", "))
	}
}

// newEngine is about the filesystem at a mountpoint, be it mounted or not.
func newEngine(mountpoint string) (*apps.Engine, error) {
	dirs, err := apps.FindDirs(os.Getenv)
	if err != nil {
		return nil, usageErrorf("%v", err)
	}
	_, err = lifecycle.Query(mountpoint)
	return &apps.Engine{
		Dirs: dirs, Mountpoint: mountpoint, Mounted: err == nil,
		SetSkeleton: func(folders []folder) error { return lifecycle.SetSkeleton(mountpoint, folders) },
		Wipe:        func(path string) error { return wipeOne(mountpoint, path) },
		Result:      func(format string, args ...any) { printf(format+"\n", args...) },
		Say:         complainf,
		Getenv:      os.Getenv,
	}, nil
}

func wipeOne(mountpoint, path string) error {
	_, failed, err := lifecycle.WipePaths(mountpoint, []string{path})
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("%s", failed[0].Error)
	}
	return err
}
