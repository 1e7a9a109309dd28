package main

import (
	"slices"

	"tokenfs/integration/apps"
)

func env(args []string) error {
	flags, named := newFlags("env")
	format := flags.String("format", "sh", "")
	if err := parseFlags(flags, args, -1); err != nil {
		return err
	}
	if !slices.Contains(apps.Formats, *format) {
		_, err := apps.Format([]apps.Variable{{}}, *format)
		return usageErrorf("env: %v", err)
	}
	e, err := engineFor(flags, *named)
	if err != nil {
		return err
	}
	names := flags.Args()
	if len(names) == 0 {
		if names, err = e.Linked(); err != nil {
			return err
		}
		if len(names) == 0 {
			return usageErrorf("env: no app is linked: name the apps whose variables you want")
		}
	}
	var vars []apps.Variable
	for _, name := range names {
		a, err := e.Find(name)
		if err != nil {
			return usageErrorf("env: %w", err)
		}
		of := e.Variables(a)
		if len(of) == 0 {
			complainf("%s knows no variable: tokenfs link redirects it", name)
		}
		for _, v := range of {
			if !slices.Contains(vars, v) {
				vars = append(vars, v)
			}
		}
	}
	text, err := apps.Format(vars, *format)
	if err != nil {
		return err
	}
	printRaw(text)
	return nil
}
