package main

import "tokenfs/lifecycle"

func upgrade(args []string) error {
	flags, named := newFlags("upgrade")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	path, err := whichMount(flags, *named)
	if err != nil {
		return err
	}
	after, err := lifecycle.Upgrade(path)
	if err != nil {
		return err
	}
	printf("%s is served by tokenfs %s now\n", path, after.Mount.Version)
	return nil
}
