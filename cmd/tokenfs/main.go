// Command tokenfs keeps token caches encrypted in memory: it mounts, inspects,
// wipes and unmounts the filesystem. Usage is in usage.go.
package main

import (
	"errors"
	"os"

	"github.com/spf13/pflag"

	"tokenfs/lifecycle"
)

// verbs are the command's own; each is in the file of its name.
var verbs = map[string]func(args []string) error{
	"mount":   mount,
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
	lifecycle.NameProcess("tokenfs")
	if lifecycle.Upgraded() {
		os.Exit(int(report(resume())))
	}
	if lifecycle.Launching() {
		os.Exit(int(launch(os.Args[1:])))
	}
	os.Exit(int(run(os.Args[1:])))
}

func run(args []string) exitCode {
	if len(args) == 0 {
		complainRaw(usage)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "-h", "--help", "help":
		return report(help(args))
	}
	verb, ok := verbs[name]
	if !ok {
		return report(usageErrorf("unknown command %q: run tokenfs help", name))
	}
	err := verb(args)
	if errors.Is(err, pflag.ErrHelp) {
		err = help([]string{name})
	}
	return report(err)
}

// help prints the usage of the command, or of one of its topics.
func help(args []string) error {
	topic := ""
	if len(args) > 0 {
		topic = args[0]
	}
	text, ok := topics[topic]
	if !ok || len(args) > 1 {
		return usageErrorf("no help on %q: run tokenfs help", args)
	}
	printRaw(text)
	return nil
}
