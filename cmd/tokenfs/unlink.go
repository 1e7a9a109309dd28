package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
)

func unlink(args []string) error {
	flags, named := newFlags("unlink")
	all := flags.Bool("all", false, "")
	keep := flags.Bool("keep-tokens", false, "")
	yesLose := flags.Bool("yes-lose", false, "")
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
	if err := lifecycle.Harden(); err != nil {
		return err
	}
	linked, err := e.Linked()
	if err != nil {
		return err
	}
	var names []string
	for _, name := range flags.Args() {
		if strings.Contains(name, "/") {
			if name, err = filepath.Abs(name); err != nil {
				return err
			}
		} else if _, err := apps.Find(name); err != nil {
			return usageErrorf("unlink: %v", err)
		}
		names = append(names, name)
	}
	if *all { // what was linked last may contain what was linked before it
		for i := range linked {
			names = append(names, linked[len(linked)-1-i])
		}
	}
	var failed []error
	for _, name := range names {
		if err := e.Unlink(name, *keep, *yesLose); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	return asUsage(errors.Join(failed...))
}

// engineFor finds the filesystem that a verb is about.
func engineFor(flags *pflag.FlagSet, named string) (*apps.Engine, error) {
	path, err := whichMount(flags, named)
	if err != nil {
		return nil, err
	}
	return newEngine(path)
}
