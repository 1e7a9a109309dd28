package main

import (
	"errors"
	"fmt"
	"strings"

	"tokenfs/fs"
	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/process"
)

type folder = fs.Folder

func link(args []string) error {
	flags, named := newFlags("link")
	all := flags.Bool("all", false, "")
	yesLose := flags.Bool("yes-lose", false, "")
	renewable := flags.Bool("renewable", false, "")
	dryRun := flags.BoolP("dry-run", "n", false, "")
	if err := parseFlags(flags, args, -1); err != nil {
		return err
	}
	switch {
	case *all && flags.NArg() > 0:
		return usageErrorf("link: both --all and %s are given: leave one out", flags.Arg(0))
	case *all && (*yesLose || *renewable):
		return usageErrorf("link: --all never takes what a logout would cost: name the apps to go with --yes-lose or --renewable")
	case !*all && flags.NArg() == 0:
		return usageErrorf("link: name apps, or --all: tokenfs apps lists them")
	}
	e, err := engineFor(flags, *named)
	if err != nil {
		return err
	}
	e.DryRun, e.Renewable = *dryRun, *renewable
	var list []apps.App
	for _, name := range flags.Args() {
		a, err := e.Find(name)
		if err != nil {
			return usageErrorf("link: %w", err)
		}
		if *renewable && !strings.Contains(a.Name, "/") {
			return usageErrorf("link: what a login brings back of %s is known: leave out --renewable", a.Name)
		}
		list = append(list, a)
	}
	if !e.Mounted {
		if _, err := lifecycle.Query(e.Mountpoint); err != nil {
			return err
		}
	}
	// What is in these files passes through this process.
	if err := process.Harden(); err != nil {
		return err
	}
	if *all {
		var skipped []string
		if list, skipped, err = e.Safe(); err != nil {
			return err
		}
		for _, name := range skipped {
			complainf("left out %s: a logout would cost what no login brings back; tokenfs link %s says what", name, name)
		}
		if len(list) == 0 {
			complainf("nothing to link")
		}
	}
	return interruptible(e, len(list), func(i int) error {
		if err := e.Link(list[i], *yesLose); err != nil {
			return fmt.Errorf("%s: %w", list[i].Name, err)
		}
		return nil
	})
}

// asUsage gives errors about what was asked for the exit code of those.
func asUsage(err error) error {
	if errors.Is(err, apps.ErrUsage) {
		return &usageError{err}
	}
	return err
}
