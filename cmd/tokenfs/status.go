package main

import (
	"fmt"
	"time"

	"tokenfs/cmd/internal/printable"
	"tokenfs/fs"
	"tokenfs/lifecycle"
)

func status(args []string) error {
	flags, named := newFlags("status")
	asJSON := flags.Bool("json", false, "")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	path, err := whichMount(flags, *named)
	if err != nil {
		return err
	}
	st, err := lifecycle.Query(path)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(st)
	}
	return printStatus(st, time.Now())
}

// printStatus is for eyes: what is unusual stands out, what is fine is short.
func printStatus(s lifecycle.Status, now time.Time) error {
	out := newTable()
	line := out.line

	c := s.Content
	whose := ""
	if s.Mount.Private {
		whose = ", for one process tree (tokenfs run)"
	}
	line("mounted\t%s%s", s.Mount.Mountpoint, whose)
	line("since\t%s (%s), pid %d, tokenfs %s", s.Mount.Since.Local().Format(time.DateTime), ago(s.Mount.Since, now), s.Mount.PID, s.Mount.Version)
	if s.Program.Replaced {
		line("PROGRAM\t%s is another one by now, and the old one goes on; %s", s.Program.Path, s.Program.Detail)
	}
	line("holds\t%s, %s of %s, %d of %d inodes", filesText(c.Files), bytesText(c.Bytes), bytesText(c.Quota), c.Inodes, c.InodeLimit)
	line("memory\t%s", memoryText(s))
	if m := s.Memory; c.Quota < m.SizeWanted || c.InodeLimit < m.InodesWanted {
		line("LOWERED\tfrom %s and %d inodes to what fits beneath a memory limit of %s, that of %s", bytesText(m.SizeWanted), m.InodesWanted, bytesText(m.Limit), m.LimitOf)
	}
	line("sealed with\t%s", s.AEAD)
	line("session\t%s", sessionText(s.Session))
	for _, l := range s.Session.Leases {
		line("lease %d\t%s", l.ID, leaseText(l, now))
	}
	if n := s.Worker.Restarts; n > 0 {
		line("worker\treplaced %s since the mount, pid %d", times(n), s.Worker.PID)
	}
	if c.ReadOnly != "" {
		line("READ-ONLY\t%s", c.ReadOnly)
	}
	if c.Altered > 0 {
		line("ALTERED\tcontents were found altered, and not returned, %s: the machine's memory is faulty, or something writes to it", times(int(c.Altered)))
	}
	if c.Panics > 0 {
		line("PANICS\t%d requests ended in a panic: please report it", c.Panics)
	}
	out.flush()

	printFiles("largest files", c.Largest, now)
	printFiles("last used files", c.LastUsed, now)

	printf("\nprotections\n")
	printProtections(out, s.Protections)

	for _, p := range s.Processes {
		printf("\n%s, pid %d\n", p.Role, p.PID)
		printProtections(out, p.Protections)
	}

	if len(s.Messages) > 0 {
		printf("\nlast messages\n")
		for _, m := range s.Messages {
			printf("  %s  %s\n", m.Time.Local().Format(time.DateTime), m.Text)
		}
	}
	return nil
}

func printProtections(out table, list []lifecycle.Protection) {
	for _, p := range list {
		active := "no"
		if p.Active {
			active = "yes"
		}
		out.line("  %s\t%s\t%s", active, p.Name, p.Detail)
	}
	out.flush()
}

func memoryText(s lifecycle.Status) string {
	limit := "no limit"
	if s.Memory.LockLimit >= 0 {
		limit = bytesText(s.Memory.LockLimit) + " allowed"
	}
	most := ""
	if s.Memory.Limit >= 0 {
		most = fmt.Sprintf("; %s at most", bytesText(s.Memory.Limit))
	}
	return fmt.Sprintf("%s locked (%s), %s in the daemon in all (PSS), %s of that sealed contents%s",
		known(s.Memory.Locked), limit, known(s.Memory.PSS), bytesText(s.Content.Arena), most)
}

// sessionText says when what is held ends by itself.
func sessionText(s lifecycle.SessionStatus) string {
	if !s.Follows {
		return "not followed: only unmounting and wiping end it"
	}
	logins := "logins not known"
	switch {
	case s.Logins == 1:
		logins = "1 login"
	case s.Logins >= 0:
		logins = fmt.Sprintf("%d logins", s.Logins)
	}
	if s.OnLogout == "keep" {
		return logins + ", kept after the last one for as long as services of this user run"
	}
	return fmt.Sprintf("%s, wiped %v after the last one", logins, time.Duration(s.Grace*float64(time.Second)))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func known(n int64) string {
	if n < 0 {
		return "unknown"
	}
	return bytesText(n)
}

func printFiles(heading string, files []fs.FileInfo, now time.Time) {
	if len(files) == 0 {
		return
	}
	printf("\n%s\n", heading)
	out := newTable()
	for _, f := range files {
		out.line("  %s\twritten %s\tread %s\t%s", bytesText(f.Size), ago(f.Mtime, now), ago(f.Atime, now), printable.Name(f.Path))
	}
	out.flush()
}
