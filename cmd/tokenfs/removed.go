package main

import (
	"errors"
	"os"
	"time"

	"tokenfs/lifecycle"
)

// putBackLimit is for putting apps back, which nobody waits for.
const putBackLimit = time.Minute

// afterRemoval is the last that a keeper does whose program was removed from the
// machine: linked apps would find links that lead nowhere, and no command that
// mends them. What is secret has ended, as at a logout.
func afterRemoval(err error) error {
	var removed *lifecycle.Removed
	if !errors.As(err, &removed) {
		return err
	}
	time.AfterFunc(putBackLimit, func() { os.Exit(int(exitFailure)) })
	return errors.Join(removed.Err, unlink([]string{"--all", "--mountpoint", removed.Mountpoint}))
}
