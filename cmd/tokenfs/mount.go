package main

import (
	"context"
	"errors"
	"fmt"
	"log/syslog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"tokenfs/cmd/internal/printable"
	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
)

func mountVerb(args []string) (err error) {
	flags, named := newFlags("mount")
	foreground := flags.BoolP("foreground", "f", false, "")
	login := flags.Bool("login", false, "")
	leader := flags.Int("leader", 0, "")        // for tokenfs-pam
	settled := flags.Bool("settled", false, "") // see daemonArgs
	mountFlags(flags)
	flags.String("on-logout", "", "")
	flags.String("grace", "", "")
	flags.String("root-logins", "", "") // where settled
	flags.MarkHidden("leader")
	flags.MarkHidden("settled")
	flags.MarkHidden("root-logins")
	linked := flags.String("apps", listOfApps(), "")
	if err := parseFlags(flags, args, 1); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		if flags.Changed("mountpoint") {
			return usageErrorf("mount: both MOUNTPOINT and --mountpoint are given: leave one out")
		}
		flags.Set("mountpoint", flags.Arg(0))
	}
	var s settings
	if *login || *leader != 0 {
		defer func() { noteFailure(s, err, recover()) }()
	}
	if *settled {
		s = defaults()
	} else if s, err = loadSettings(); err != nil {
		return err
	}
	if err := s.setFlags(flags); err != nil {
		return err
	}
	// What a daemon in the background is told may mean nothing in its namespace.
	if *settled {
		s.mountpoint = *named
	} else if s.mountpoint, err = where(flags, *named, s); err != nil {
		return err
	}
	if s.login, s.leader = *login, *leader; s.login || s.leader != 0 {
		mount.ForgetFailure(s.mountpoint) // an earlier one
	}
	if *foreground && lifecycle.HasOwnEnvironment() {
		return serve(s, *linked)
	} else if *foreground {
		return lifecycle.StartAgain(s.daemonArgs(*linked))
	}
	started, err := process.Start(s.daemonArgs(*linked)...)
	for tries := 0; err == nil && !started && s.leader != 0; tries++ {
		if err = lifecycle.Login(s.mountpoint, s.leader); err == nil || tries == 3 {
			return err
		}
		// The session that it was for ended just now.
		started, err = process.Start(s.daemonArgs(*linked)...)
	}
	var daemon *process.ErrDaemon
	if errors.As(err, &daemon) {
		return &reported{exitCode(daemon.ExitCode)}
	}
	if started {
		printf("mounted on %s\n", s.mountpoint)
	}
	return err
}

// noteFailure is for who logs in and has no mount: nobody sees what is printed
// here, except in the journal. A panic goes on once it is noted.
func noteFailure(s settings, err error, panicked any) {
	if panicked != nil {
		defer panic(panicked)
		err = fmt.Errorf("internal error: %v", panicked)
	}
	if err == nil {
		return
	}
	why := strings.Join(printable.Lines(err), "; ")
	if said := (*reported)(nil); errors.As(err, &said) {
		// The daemon has left a note of its own, which stays, unless it died first.
		why = "the daemon died without a word: run tokenfs mount to see more"
	}
	path := s.mountpoint
	if path == "" {
		var nowhere error
		if path, nowhere = mount.DefaultMountpoint(); nowhere != nil {
			return
		}
	}
	if err := mount.NoteFailure(path, why); err != nil {
		complainf("%v", err)
	}
}

// mountFlags are for the settings of a filesystem to be mounted.
func mountFlags(flags *pflag.FlagSet) {
	for _, key := range []string{"size", "inodes", "secretmem", "whole-saves"} {
		flags.String(key, "", "")
	}
	flags.StringArrayP("options", "o", nil, "")
}

// setFlags takes over the settings that are given as flags.
func (s *settings) setFlags(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if keys[f.Name] == nil || f.Name == "mountpoint" || err != nil {
			return
		}
		value := f.Value.String()
		if options, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(options.GetSlice(), ",")
		}
		err = s.set("--"+f.Name, f.Name, value)
	})
	return err
}

// daemonArgs says on the daemon's command line all that was settled here, so
// that ps shows it, and no file or variable is looked at twice.
func (s settings) daemonArgs(linked string) []string {
	args := []string{"tokenfs", "mount", "--foreground", "--settled",
		"--apps=" + linked,
		fmt.Sprintf("--size=%d", s.size),
		fmt.Sprintf("--inodes=%d", s.inodes),
		fmt.Sprintf("--grace=%v", s.atLogout.Grace),
		"--options=" + strings.Join(s.options, ",")}
	wholeSaves := "on"
	if s.plainSaves {
		wholeSaves = "off"
	}
	args = append(args, "--whole-saves="+wholeSaves)
	if s.atLogout.Keep {
		args = append(args, "--on-logout=keep")
	}
	if s.login {
		args = append(args, "--login")
	}
	if s.rootLogins {
		args = append(args, "--root-logins=on")
	}
	if s.leader != 0 {
		args = append(args, fmt.Sprintf("--leader=%d", s.leader))
	}
	for name, mode := range secretmemModes {
		if mode == s.secretmem {
			args = append(args, "--secretmem="+name)
		}
	}
	return append(args, "--", s.mountpoint)
}

// serve is the daemon, be it in the foreground or started by mount.
func serve(s settings, linked string) error {
	if err := process.Harden(); err != nil {
		return err
	}
	skeleton, err := apps.Skeleton(linked, homeOfApps(), s.mountpoint)
	if err != nil { // a mount without it is better than none: apps get errors then
		complainf("warning: linked apps do not find their directories: %v", err)
	}
	err = lifecycle.Run(context.Background(), lifecycle.Options{
		Mountpoint:   s.mountpoint,
		Size:         s.size,
		Inodes:       s.inodes,
		Secretmem:    s.secretmem,
		MountOptions: s.options,
		PlainSaves:   s.plainSaves,
		Skeleton:     skeleton,
		AtLogout:     s.atLogout,
		Login:        s.login,
		Leader:       s.leader,
		RootLogins:   s.rootLogins,
		Version:      buildVersion().Version,
		Ready: func() {
			if !process.Background() {
				printf("mounted on %s\n", s.mountpoint)
			}
		},
		Logf: logger(),
	})
	if errors.Is(err, lifecycle.ErrMounted) {
		complainf("%s is mounted already", s.mountpoint)
		return nil
	}
	return afterRemoval(err)
}

// homeOfApps is what the list of linked apps is relative to.
func homeOfApps() string {
	dirs, err := apps.FindDirs(os.Getenv)
	if err != nil {
		return "" // then nothing in the list is found
	}
	return dirs.Home
}

// listOfApps is where the list of linked apps is, if there can be one.
func listOfApps() string {
	dirs, err := apps.FindDirs(os.Getenv)
	if err != nil {
		return "" // no home
	}
	return apps.List(dirs)
}

// resume is the daemon after an upgrade, which knows all settings already.
func resume() error {
	return afterRemoval(lifecycle.Resume(context.Background(), lifecycle.Options{Version: buildVersion().Version, Logf: logger()}))
}

// logger goes to standard error, which a daemon in the background has only
// until it is ready, and then to syslog where there is one.
func logger() func(format string, args ...any) {
	var system *syslog.Writer
	if process.Background() || lifecycle.Upgraded() {
		system, _ = syslog.New(syslog.LOG_USER|syslog.LOG_NOTICE, "tokenfs")
	}
	return func(format string, args ...any) {
		complainf(format, args...)
		if system != nil {
			system.Notice(fmt.Sprintf(format, printable.Args(args)...))
		}
	}
}
