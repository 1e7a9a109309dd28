package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"tokenfs/lifecycle"
)

// releaseVersion is set by the linker: -ldflags "-X main.releaseVersion=v1.2.3".
var releaseVersion string

// build is the JSON of the version verb; format_version as for status.
type build struct {
	FormatVersion int    `json:"format_version"`
	Version       string `json:"version"`
	Revision      string `json:"revision"`
	Modified      bool   `json:"modified"` // built with changes that are in no revision
	Go            string `json:"go"`
	// Experiments are those of Go's compiler, and the build tags.
	Experiments []string `json:"experiments"`
	Platform    string   `json:"platform"`
	// Formats are what this version can take over in an upgrade.
	Formats lifecycle.Formats `json:"formats"`
}

func version(args []string) error {
	flags, _ := newFlags("version")
	asJSON := flags.Bool("json", false, "")
	if err := parseFlags(flags, args, 0); err != nil {
		return err
	}
	b := buildVersion()
	if *asJSON {
		return printJSON(b)
	}
	printf("tokenfs %s (%s, %s)\n", b.Version, b.Go, b.Platform)
	return nil
}

func buildVersion() build {
	b := build{FormatVersion: 1, Version: releaseVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Experiments: []string{},
		Formats:     lifecycle.ReadableFormats()}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "GOEXPERIMENT", "-tags":
				b.Experiments = append(b.Experiments, strings.Split(s.Value, ",")...)
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
		if b.Version == "" {
			b.Version = info.Main.Version
		}
	}
	if b.Version == "" {
		b.Version = "unknown"
	}
	return b
}
