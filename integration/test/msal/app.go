// Package msal is a small app on Debian's own MSAL Python, with the token cache
// that its extensions keep in a file; its tests run it on the filesystem, and
// the demo shows it.
package msal

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Python is Debian's, whatever else is first in PATH: its MSAL is the one that
// az runs on.
const Python = "/usr/bin/python3"

//go:embed app.py
var app string

// An App is a running app.py.
type App struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// Start starts an app on a cache.
func Start(cache string) (*App, error) {
	cmd := exec.Command(Python, "-c", app, cache)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &App{cmd, in, bufio.NewScanner(out)}
	if !a.out.Scan() || a.out.Text() != "ready" {
		a.Quit()
		return nil, errors.New("the MSAL app did not start: is python3-msal-extensions installed?")
	}
	return a, nil
}

// Do gives the app a command and returns what it printed.
func (a *App) Do(command string) (lines []string, err error) {
	if _, err := fmt.Fprintln(a.in, command); err != nil {
		return nil, err
	}
	for a.out.Scan() {
		if a.out.Text() == "done" {
			return lines, nil
		}
		lines = append(lines, a.out.Text())
	}
	return lines, fmt.Errorf("the MSAL app ended during %q", command)
}

// PID is that of the app.
func (a *App) PID() int { return a.cmd.Process.Pid }

// Quit ends the app.
func (a *App) Quit() {
	a.in.Close()
	a.cmd.Wait()
}
