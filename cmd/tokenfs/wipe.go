package main

import (
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/mount"
)

func wipe(args []string) error {
	flags, named := newFlags("wipe")
	if err := parseFlags(flags, args, -1); err != nil {
		return err
	}
	mountpoint, err := whichMount(flags, *named)
	if err != nil {
		return err
	}
	// All paths are found before anything is destroyed.
	var paths []string
	everything := flags.NArg() == 0
	for _, arg := range flags.Args() {
		rel, err := mount.Within(mountpoint, arg)
		if err != nil {
			return err
		}
		everything = everything || rel == "."
		paths = append(paths, rel)
	}
	if everything {
		if err := lifecycle.WipeAll(mountpoint); err != nil {
			return err
		}
		printf("wiped everything\n")
		return nil
	}
	files, failed, err := lifecycle.WipePaths(mountpoint, paths)
	if files > 0 || err == nil && len(failed) == 0 {
		printf("wiped %s\n", filesText(files))
	}
	if err != nil || len(failed) == 0 {
		return err
	}
	code := exitCodeOf(failed[0].Kind)
	for _, f := range failed {
		complainf("wipe in %s: %s", mountpoint, f.Error)
		if exitCodeOf(f.Kind) != code {
			code = exitFailure
		}
	}
	return &reported{code}
}
