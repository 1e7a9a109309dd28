package process

import (
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// What is sent to a process that waits for a command is meant for the command. A terminal's keys are
// an exception: it signals all of its foreground process group, so the command,
// which is in it, has its interrupt already.

// forwarded are the signals that a command can get so.
var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGCONT, unix.SIGTSTP, unix.SIGIO, unix.SIGPWR}

// ofKeys are those that a terminal sends.
var ofKeys = []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP}

// CollectSignals keeps them from ending this process, but for some. What it was
// started to ignore, as by nohup, its command shall ignore, too.
func CollectSignals(but ...os.Signal) <-chan os.Signal {
	received := make(chan os.Signal, 2*len(forwarded))
	for _, s := range forwarded {
		if !signal.Ignored(s) && !slices.Contains(but, s) {
			signal.Notify(received, s)
		}
	}
	return received
}

// PassOn sends to what pidfd stands for what this process receives, for ever.
func PassOn(received <-chan os.Signal, pidfd int) {
	for s := range received {
		if slices.Contains(ofKeys, s) && inForeground() {
			continue
		}
		unix.PidfdSendSignal(pidfd, s.(unix.Signal), nil, 0)
	}
}

// openTerminal opens the one that controls this process.
func openTerminal() (*os.File, error) {
	return os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
}

func inForeground() bool {
	terminal, err := openTerminal()
	if err != nil {
		return false
	}
	defer terminal.Close()
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// StopLike stops this process because its command was stopped, so that the
// shell both were started from notices, and returns when it goes on. Without a
// terminal there is no such shell, and nobody to wake this process up again.
func StopLike() {
	terminal, err := openTerminal()
	if err != nil {
		return
	}
	terminal.Close()
	unix.Kill(os.Getpid(), unix.SIGSTOP)
}
