package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"tokenfs/cmd/internal/printable"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/session"
)

func hold(args []string) error {
	flags, named := newFlags("hold")
	flags.SetInterspersed(false) // what follows COMMAND is the command's
	holder := flags.Bool("holder", false, "")
	flags.MarkHidden("holder")
	if err := parseFlags(flags, args, -1); err != nil {
		return err
	}
	command := flags.ArgsLenAtDash() == 0 && flags.NArg() > 0
	if !command && (flags.NArg() != 1 || flags.ArgsLenAtDash() >= 0) {
		if flags.NArg() > 1 && flags.ArgsLenAtDash() < 0 {
			return usageErrorf("hold: a COMMAND comes after --: tokenfs hold -- %s ...", flags.Arg(0))
		}
		return usageErrorf("hold: give a DURATION, or -- and a COMMAND: run tokenfs help hold")
	}
	path, err := whichMount(flags, *named)
	switch {
	case err != nil:
		return err
	case !command:
		return holdFor(path, flags.Arg(0))
	case *holder:
		status, err := lifecycle.BeHolderOf(path, commandName(flags.Arg(0)), flags.Args())
		if err != nil && status != 0 {
			complainf("%v", err)
			err = &reported{exitCode(status)}
		}
		return err
	}
	status, err := lifecycle.HoldCommand(append([]string{"tokenfs", "hold", "--holder", "--mountpoint", path, "--"}, flags.Args()...))
	if err == nil && status != 0 {
		err = &reported{exitCode(status)}
	}
	return err
}

func holdFor(path, duration string) error {
	d, err := parseTime(duration)
	if _, notFound := exec.LookPath(duration); err != nil && notFound == nil {
		return usageErrorf("hold: %q is a command, and no time: tokenfs hold -- %s", duration, duration)
	}
	if err != nil || d < time.Second || d > session.MaxHold {
		return usageErrorf("hold: %q is not a time from 1s to 720h: give 30m, 8h, 1h30m or 2d", duration)
	}
	l, err := lifecycle.Hold(path, d)
	if err != nil {
		return err
	}
	printf("held until %s: lease %d\n", l.Until.Local().Format(time.DateTime), l.ID)
	return nil
}

// commandName is all that is told about a command: arguments can be secrets.
func commandName(path string) string {
	name := filepath.Base(path)
	return name[:min(len(name), session.MaxCommandName)]
}

// leaseText is a line of status.
func leaseText(l session.Lease, now time.Time) string {
	if l.Until != nil {
		return fmt.Sprintf("until %s, held %s", l.Until.Local().Format(time.DateTime), ago(l.Since, now))
	}
	return fmt.Sprintf("while %s runs (pid %d), held %s", printable.Name(l.Command), l.PID, ago(l.Since, now))
}
