package main

import "tokenfs/lifecycle"

func unmount(args []string) error {
	flags, named := newFlags("unmount")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	s, err := loadSettings()
	if err != nil {
		return err
	}
	path, err := where(flags, *named, s)
	if err != nil {
		return err
	}
	how, err := lifecycle.Unmount(path)
	if err != nil {
		return err
	}
	printf("unmounted %s\n", path)
	switch {
	case how.Busy:
		complainf("it was still in use: the keys are destroyed, and whoever has files of it open gets errors")
	case how.Dead:
		complainf("its daemon had ended before, and the keys with it")
	case how.Killed:
		complainf("its daemon did not answer and was killed, which destroyed the keys")
	case how.Untold:
		complainf("warning: its control socket was missing, so the daemon could not be told: it destroys the keys when the last open file there is closed")
	}
	return nil
}
