package main

import (
	"fmt"
	"strings"
	"time"

	"tokenfs/cmd/internal/printable"
	"tokenfs/fs"
	"tokenfs/lifecycle"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/session"
)

func status(args []string) error {
	flags, named := newFlags("status")
	asJSON := flags.Bool("json", false, "")
	verbose := flags.BoolP("verbose", "v", false, "")
	quiet := flags.BoolP("quiet", "q", false, "")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	if *quiet && (*verbose || *asJSON) {
		return usageErrorf("status: -q says nothing: leave out --json and -v")
	}
	path, err := whichMount(flags, *named)
	if err != nil {
		return err
	}
	st, err := lifecycle.Query(path)
	switch {
	case *quiet && err != nil:
		return &reported{exitCodeOf(fault.KindOf(err))}
	case *quiet:
		return nil
	case *asJSON && err != nil:
		if err := printJSON(absent{lifecycle.StatusVersion, fault.KindOf(err), path, err.Error()}); err != nil {
			return err
		}
		return &reported{exitCodeOf(fault.KindOf(err))}
	case err != nil:
		return err
	case *asJSON:
		return printJSON(present{stateMounted, st})
	}
	printStatus(st, time.Now(), *verbose)
	return nil
}

const stateMounted = "mounted"

// present is the JSON of a filesystem that answers, absent that of one that does
// not; docs/status.md tells what the fields mean.
type present struct {
	State string `json:"state"`
	lifecycle.Status
}

type absent struct {
	FormatVersion int        `json:"format_version"`
	State         fault.Kind `json:"state"`
	Mountpoint    string     `json:"mountpoint"`
	Why           string     `json:"why"`
}

// printStatus is for eyes: what is held, until when, and what does not protect it
// here. What is unusual stands out in capitals; all the rest is for verbose.
func printStatus(s lifecycle.Status, now time.Time, verbose bool) {
	out := newTable()
	line := out.line

	c := s.Content
	whose := ""
	if s.Mount.Private {
		whose = ", for one process tree (tokenfs run)"
	}
	line("mounted\t%s, %s%s", s.Mount.Mountpoint, ago(s.Mount.Since, now), whose)
	if s.Program.Replaced {
		line("PROGRAM\t%s is another one by now, and the old one goes on: %s", s.Program.Path, s.Program.Detail)
	}
	line("holds\t%s, %s of %s, %d of %d inodes", filesText(c.Files), bytesText(c.Bytes), bytesText(c.Quota), c.Inodes, c.InodeLimit)
	if m := s.Memory; c.Quota < m.SizeWanted || c.InodeLimit < m.InodesWanted {
		line("LOWERED\tfrom %s and %d inodes to what fits beneath a memory limit of %s, that of %s", bytesText(m.SizeWanted), m.InodesWanted, bytesText(m.Limit), m.LimitOf)
	}
	if n := len(c.Drafts.Open); n > 0 {
		line("saving\t%s, until then as before to others", filesText(n))
	}
	line("until\t%s", sessionText(s.Session))
	for _, l := range s.Session.Leases {
		line("lease %d\t%s", l.ID, leaseText(l, now))
	}
	if m, ok := lastEnd(s.Messages); ok {
		line("before\t%s, %s", m.Text, ago(m.Time, now))
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
	off := protectionsOff(s)
	if len(off) == 0 {
		line("protected\tall protections on")
	}
	for i, p := range off {
		name := ""
		if i == 0 {
			name = "protected"
		}
		line("%s\tnot by %s: %s", name, p.Name, p.Detail)
	}
	out.flush()
	if verbose {
		printDetails(s, now)
	}
}

// lastEnd is what ended the session before this one, where the mount has stayed.
func lastEnd(messages []lifecycle.Message) (last lifecycle.Message, ok bool) {
	for _, m := range messages {
		if m.Text == "wiped everything" || strings.HasPrefix(m.Text, "the session is over") {
			last, ok = m, true
		}
	}
	return last, ok
}

// protectionsOff are those that this machine, or this way of running, does not
// give. What the keeper must be able to do is none, nor is swap by itself: what is
// held cannot get there. Memory that the kernel does not clear is the rule, and
// tokenfs clears its own.
func protectionsOff(s lifecycle.Status) (off []lifecycle.Protection) {
	for _, p := range s.Protections {
		if !p.Active && p.Name != "swap_absent" && p.Name != "swap_forbidden" && p.Name != "init_on_free" {
			off = append(off, p)
		}
	}
	for _, process := range s.Processes {
		for _, p := range process.Protections {
			if !p.Active && process.Role == "worker" {
				off = append(off, p)
			}
		}
	}
	return off
}

func printDetails(s lifecycle.Status, now time.Time) {
	printf("\n")
	out := newTable()
	out.line("since\t%s, pid %d, tokenfs %s", s.Mount.Since.Local().Format(time.DateTime), s.Mount.PID, s.Mount.Version)
	out.line("memory\t%s", memoryText(s))
	out.line("saves\t%s", savesText(s.Content.Drafts))
	out.line("sealed with\t%s", s.AEAD)
	if n := s.Worker.Restarts; n > 0 {
		out.line("worker\treplaced %s since the mount, pid %d", times(n), s.Worker.PID)
	}
	out.flush()

	printFiles("being saved", s.Content.Drafts.Open, now)
	printFiles("largest files", s.Content.Largest, now)
	printFiles("last used files", s.Content.LastUsed, now)

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
func sessionText(s session.Status) string {
	if !s.Follows {
		return "tokenfs wipe or unmount: nobody follows your logins here"
	}
	logins := "logins not known"
	switch {
	case s.Logins == 1:
		logins = "1 login"
	case s.Logins >= 0:
		logins = fmt.Sprintf("%d logins", s.Logins)
	}
	if s.OnLogout == "keep" {
		return "services of this user end: " + logins + ", and it is kept after the last one"
	}
	return fmt.Sprintf("%v after the last logout: %s", time.Duration(s.Grace*float64(time.Second)), logins)
}

func savesText(d fs.Drafts) string {
	if !d.On {
		return "in place, as on tmpfs (whole-saves = off)"
	}
	text := fmt.Sprintf("whole, %d so far", d.Committed)
	if d.Dropped > 0 {
		text += fmt.Sprintf("; %d given up, for who wrote them was killed or had no room", d.Dropped)
	}
	return text
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
