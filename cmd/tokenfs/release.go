package main

import (
	"fmt"
	"strconv"

	"tokenfs/lifecycle"
)

func release(args []string) error {
	flags, named := newFlags("release")
	if err := parseFlags(flags, args, 1); err != nil {
		return err
	}
	id := 0
	if flags.NArg() > 0 {
		var err error
		if id, err = strconv.Atoi(flags.Arg(0)); err != nil || id < 1 {
			return usageErrorf("release: %q is not the ID of a lease: tokenfs status lists them", flags.Arg(0))
		}
	}
	path, err := whichMount(flags, *named)
	if err != nil {
		return err
	}
	n, err := lifecycle.Release(path, id)
	switch {
	case err != nil:
		return err
	case n == 0 && id > 0:
		return fmt.Errorf("there is no lease %d: tokenfs status lists them", id)
	case n == 1:
		printf("released 1 lease\n")
	default:
		printf("released %d leases\n", n)
	}
	return nil
}
