package main

import (
	"os"

	"github.com/spf13/pflag"

	"tokenfs/lifecycle"
	"tokenfs/lifecycle/mount"
)

func unmount(args []string) error {
	flags, named := newFlags("unmount")
	dead := flags.Bool("dead", false, "")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	if *dead {
		return clearDead(flags, *named)
	}
	path, err := whichMount(flags, *named)
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

// clearDead is what systemd runs when a daemon has ended.
func clearDead(flags *pflag.FlagSet, named string) error {
	path, err := whichMount(flags, named)
	if err != nil {
		return err
	}
	cleared, err := lifecycle.ClearDead(path)
	if err != nil {
		return err
	}
	if cleared > 0 {
		printf("unmounted %s\n", path)
	}
	const remedy = ": systemctl --user status tokenfs tells more, systemctl --user restart tokenfs tries again"
	switch result := os.Getenv("SERVICE_RESULT"); result {
	case "", "success":
		return nil
	case "timeout":
		return mount.NoteFailure(path, "it took too long, or did not end when it was told to"+remedy)
	default:
		return mount.NoteFailure(path, "it was ended from outside ("+result+")"+remedy)
	}
}
