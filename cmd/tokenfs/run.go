package main

import (
	"errors"

	"github.com/spf13/pflag"

	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/run"
)

// runCommand is the verb run. Its own failures have statuses that few commands
// use, as with env, nohup and timeout.
func runCommand(args []string) error {
	status, err := runTree(args)
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var daemon *process.ErrDaemon // which has said why
	if err != nil && !errors.As(err, &daemon) {
		complainf("%v", err)
	}
	if err != nil && status == 0 {
		status = int(exitRun)
	}
	if status == 0 {
		return nil
	}
	return &reported{exitCode(status)}
}

func runTree(args []string) (status int, err error) {
	flags, named := newFlags("run")
	flags.SetInterspersed(false) // what follows COMMAND is the command's
	mountFlags(flags)
	flags.String("private", "", "")
	if err := parseFlags(flags, args, -1); err != nil {
		return 0, err
	}
	if flags.NArg() == 0 {
		return 0, usageErrorf("run: no COMMAND: run tokenfs help run")
	}
	s, err := loadSettings()
	if err == nil {
		err = s.setFlags(flags)
	}
	if err != nil {
		return 0, err
	}
	c := &run.Command{
		Argv:         flags.Args(),
		Mountpoint:   s.mountpoint,
		Private:      s.private,
		MountOptions: s.options,
		Warnf:        complainf,
		Daemon: func(mountpoint string) []string {
			s.mountpoint = mountpoint
			return s.daemonArgs(listOfApps())
		},
	}
	if flags.Changed("mountpoint") {
		if c.Mountpoint, err = where(flags, *named, s); err != nil {
			return 0, err
		}
	}
	return c.Run()
}

// launch is the process that becomes the command of run.
func launch(args []string) exitCode {
	if len(args) < 3 { // run -- COMMAND
		return exitRun
	}
	err := run.Launch(args[2:])
	var command *run.ErrNoCommand
	switch {
	case errors.Is(err, run.ErrLaunch):
		return exitRun // tokenfs run says why
	case errors.As(err, &command) && command.NotFound():
		complainf("run: %v", err)
		return exitNoCommand
	case errors.As(err, &command):
		complainf("run: %v", err)
		return exitCannotExecute
	}
	complainf("run: %v", err)
	return exitRun
}
