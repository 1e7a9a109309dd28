package main

import (
	"fmt"
	"os"
	"os/user"

	"tokenfs/integration/doctor"
	"tokenfs/lifecycle"
)

func examine(args []string) error {
	flags, named := newFlags("doctor")
	asJSON := flags.Bool("json", false, "")
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
		return printJSON(r)
	}
	for _, f := range r.Findings {
		printf("%-7s  %s\n         try: %s\n", f.Severity, f.Text, f.Remedy)
	}
	printf("%d checks, %d findings\n", len(r.Checks), len(r.Findings))
	return nil
}
