package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// The rules of the tour:
//
//   - A step is a number, a title, what is done and what came of it.
//   - "$" begins a command that was run as it is shown.
//   - What is searched is said with how much of it was read. What could not be
//     read is said to be unread, with the reason, never to hold nothing.
//   - Nothing is shown of a token.

var steps int

func step(title string) {
	steps++
	fmt.Printf("\n%d. %s\n", steps, title)
}

func say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Println("   " + strings.TrimRight(line, "\n"))
	}
}

// run shows a command, runs it, and shows what it prints.
func run(name string, args ...string) error {
	say("$ %s", strings.Join(append([]string{name}, args...), " "))
	out, err := exec.Command(name, args...).CombinedOutput()
	say("%s", out)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}

// place makes a private directory for the demo, in which a runtime directory
// and nothing else would be.
func place() (string, error) {
	for _, runtime := range []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid())} {
		if runtime == "" {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(runtime, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if int(st.Uid) == os.Getuid() {
			return os.MkdirTemp(runtime, "tokenfs-demo.")
		}
		say("%s is another user's, as after su without a login of one's own: it is left alone.", runtime)
	}
	dir, err := os.MkdirTemp("", "tokenfs-demo.")
	if err == nil {
		say("There is no XDG_RUNTIME_DIR of yours and no /run/user/%d here: this run uses a private\ndirectory of mode 0700, %s.", os.Getuid(), dir)
	}
	return dir, err
}
