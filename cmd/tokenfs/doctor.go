package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"

	"tokenfs/integration/doctor"
	"tokenfs/lifecycle"
)

func examine(args []string) error {
	flags, named := newFlags("doctor")
	asJSON := flags.Bool("json", false, "")
	tell := flags.Bool("exit-code", false, "")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	s, mistakes := loadSettings()
	path, nowhere := where(flags, *named, s)
	if flags.Changed("mountpoint") && nowhere != nil {
		return nowhere
	}
	if nowhere != nil {
		path = fmt.Sprintf("/run/user/%d/tokenfs", os.Geteuid())
	}
	e, err := newEngine(path)
	if err != nil {
		return err
	}
	m := &doctor.Machine{Root: "/", UID: os.Geteuid(), Getenv: os.Getenv, Mountpoint: path, Nowhere: nowhere, Mistakes: mistakes, Apps: e}
	if u, err := user.Current(); err == nil {
		m.User = u.Username
	}
	if st, err := lifecycle.Query(e.Mountpoint); err == nil {
		m.Status = &st
	} else {
		m.StatusErr = err
	}
	r := doctor.Examine(m)
	if *asJSON {
		if err := printJSON(r); err != nil {
			return err
		}
	} else {
		for _, f := range r.Findings {
			printf("%-7s  %s\n         try: %s\n", f.Severity, f.Text, f.Remedy)
		}
		findings := fmt.Sprintf("%d findings", len(r.Findings))
		if len(r.Findings) == 1 {
			findings = "1 finding"
		}
		printf("%d checks, %s\n", len(r.Checks), findings)
	}
	if *tell && slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Severity <= doctor.Broken }) {
		return &reported{exitFailure}
	}
	return nil
}
