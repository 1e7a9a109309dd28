package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"tokenfs/integration/apps"
	"tokenfs/lifecycle/process"
)

func unlink(args []string) error {
	flags, named := newFlags("unlink")
	all := flags.Bool("all", false, "")
	keep := flags.Bool("keep-tokens", false, "")
	yesLose := flags.Bool("yes-lose", false, "")
	dryRun := flags.BoolP("dry-run", "n", false, "")
	if err := parseFlags(flags, args, -1); err != nil {
		return err
	}
	switch {
	case *all && flags.NArg() > 0:
		return usageErrorf("unlink: both --all and %s are given: leave one out", flags.Arg(0))
	case !*all && flags.NArg() == 0:
		return usageErrorf("unlink: name apps, or --all: tokenfs apps lists them")
	}
	e, err := engineFor(flags, *named)
	if err != nil {
		return err
	}
	if err := process.Harden(); err != nil {
		return err
	}
	linked, err := e.Linked()
	if err != nil {
		return err
	}
	var names []string
	for _, name := range flags.Args() {
		if name, err = e.NameOf(name); err != nil {
			return usageErrorf("unlink: %w", err)
		}
		names = append(names, name)
	}
	if *all { // what was linked last may contain what was linked before it
		for i := range linked {
			names = append(names, linked[len(linked)-1-i])
		}
	}
	e.DryRun = *dryRun
	return interruptible(e, len(names), func(i int) error {
		if err := e.Unlink(names[i], *keep, *yesLose); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		return nil
	})
}

// engineFor finds the filesystem that a verb is about.
func engineFor(flags *pflag.FlagSet, named string) (*apps.Engine, error) {
	path, err := whichMount(flags, named)
	if err != nil {
		return nil, err
	}
	return newEngine(path)
}
