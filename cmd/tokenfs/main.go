// Command tokenfs keeps token caches encrypted in memory: it mounts, inspects,
// wipes and unmounts the filesystem. Usage is in usage.go.
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"tokenfs/lifecycle"
	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/run"
)

// verbs are the command's own; each is in the file of its name.
var verbs = map[string]func(args []string) error{
	"mount":   mountVerb,
	"run":     runCommand,
	"unmount": unmount,
	"upgrade": upgrade,
	"status":  status,
	"hold":    hold,
	"release": release,
	"wipe":    wipe,
	"apps":    appsVerb,
	"link":    link,
	"unlink":  unlink,
	"env":     env,
	"doctor":  examine,
	"version": version,
}

func main() {
	lifecycle.BeWorker()
	process.NameProcess("tokenfs")
	if lifecycle.Upgraded() {
		os.Exit(int(report(resume())))
	}
	if run.Launching() {
		os.Exit(int(launch(os.Args[1:])))
	}
	os.Exit(int(dispatch(os.Args[1:])))
}

func dispatch(args []string) exitCode {
	if len(args) == 0 {
		complainRaw(usage)
		return exitUsage
	}
	name, args := verbOf(args)
	switch name {
	case "-h", "--help", "help":
		return finish(name, report(help(args)))
	case "-V", "--version":
		return finish(name, report(version(args)))
	}
	verb, ok := verbs[name]
	if !ok {
		return report(usageErrorf("unknown command %q%s: run tokenfs help", name, didYouMean(name, slices.Collect(maps.Keys(verbs)))))
	}
	err := verb(args)
	if errors.Is(err, pflag.ErrHelp) {
		err = help([]string{name})
	}
	return finish(name, report(err))
}

// verbOf finds the verb, also behind the flag that all of them have.
func verbOf(args []string) (name string, rest []string) {
	var before []string
	for len(args) > 1 && (args[0] == "--mountpoint" || strings.HasPrefix(args[0], "--mountpoint=")) {
		n := 1
		if args[0] == "--mountpoint" {
			n = min(2, len(args)-1)
		}
		before, args = append(before, args[:n]...), args[n:]
	}
	return args[0], append(before, args[1:]...)
}

// finish makes a result that could not be written a failure. A mount is none the
// less there.
func finish(name string, code exitCode) exitCode {
	if code == exitOK && outputErr != nil && name != "mount" {
		return report(fmt.Errorf("write to standard output: %w", outputErr))
	}
	return code
}

// help prints the usage of the command, or of one of its topics.
func help(args []string) error {
	topic := ""
	if len(args) > 0 {
		topic = args[0]
	}
	text, ok := topics[topic]
	if !ok || len(args) > 1 {
		about := strings.Join(args, " ")
		return usageErrorf("no help on %q%s: run tokenfs help", about, didYouMean(about, slices.Collect(maps.Keys(topics))))
	}
	printRaw(text)
	return nil
}
