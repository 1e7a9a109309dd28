package main

import (
	"errors"
	"fmt"
	"strings"

	"tokenfs/lifecycle/fault"
)

type exitCode int

// What the numbers mean is a promise to scripts: one meaning each, never
// changed. 125 and above are run's: it has the status of its command otherwise.
const (
	exitOK exitCode = iota
	exitFailure
	exitUsage
	exitNotMounted
	exitDead
	exitMountpoint
	exitUnsupported
	exitNoPath

	exitRun           exitCode = 125
	exitCannotExecute exitCode = 126
	exitNoCommand     exitCode = 127
)

var exitCodes = []struct {
	code    exitCode
	kind    fault.Kind
	meaning string
}{
	{exitOK, "", "done; for mount also: it was mounted already"},
	{exitFailure, fault.Failed, "failed for a reason that has no number of its own"},
	{exitUsage, fault.BadRequest, "the command line or a setting makes no sense"},
	{exitNotMounted, fault.NotMounted, "no tokenfs is mounted there"},
	{exitDead, fault.Dead, "mounted, but its daemon is gone or does not answer"},
	{exitMountpoint, fault.Mountpoint, "the mountpoint cannot be used: not a directory, not empty, not yours"},
	{exitUnsupported, fault.Unsupported, "this machine lacks something that is needed"},
	{exitNoPath, fault.NoPath, "a path to wipe is not in the filesystem"},
	{exitRun, runOnly, "run: the command was not started, or its filesystem ended before it"},
	{exitCannotExecute, runOnly, "run: the command cannot be executed"},
	{exitNoCommand, runOnly, "run: there is no such command"},
}

// runOnly is no kind of failure: what run returns, nothing else does.
const runOnly fault.Kind = "run"

func exitCodeTable() string {
	var b strings.Builder
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "%5d  %s\n", e.code, e.meaning)
	}
	return b.String()
}

// usageError is a command line or a setting that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// reported is a failure that has been printed already.
type reported struct{ code exitCode }

func (e *reported) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// report prints why a verb failed, and finds the exit code for it.
func report(err error) exitCode {
	var said *reported
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &said):
		return said.code
	}
	complainf("%v", err)
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitCodeOf(fault.KindOf(err))
}

func exitCodeOf(kind fault.Kind) exitCode {
	for _, e := range exitCodes {
		if e.kind == kind {
			return e.code
		}
	}
	return exitFailure
}
