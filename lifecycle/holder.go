package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// A lease for a command lasts as long as the command and all that it leaves in
// the background: tmux, screen and mosh-server are there only after the process
// that was started has ended. So a process of its own, the holder, starts the
// command and adopts what the command leaves; and the one that the shell waits
// for ends with the command.

// Hold keeps the filesystem for a time.
func Hold(mountpoint string, d time.Duration) (Lease, error) {
	return takeLease(mountpoint, request{Verb: verbHold, Seconds: int64(d / time.Second)})
}

func takeLease(mountpoint string, r request) (Lease, error) {
	c, err := dial(mountpoint)
	if err != nil {
		return Lease{}, err
	}
	defer c.close()
	answer, err := c.ask(r, answerTimeout)
	if err == nil && answer.Lease == nil {
		err = fmt.Errorf("the daemon (pid %d) answered without a lease", c.server.Pid)
	}
	if err != nil {
		return Lease{}, err
	}
	return *answer.Lease, nil
}

// Release ends a lease, or all if id is 0, and says how many that were.
func Release(mountpoint string, id int) (int, error) {
	c, err := dial(mountpoint)
	if err != nil {
		return 0, err
	}
	defer c.close()
	answer, err := c.ask(request{Verb: verbRelease, Lease: id}, answerTimeout)
	return answer.Released, err
}

// passedOn are the signals that a command gets which its holder got. A terminal
// sends its own to the whole process group.
var passedOn = []os.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

// HoldCommand runs this program with argv, whose main must come to BeHolderOf, and
// returns with the exit status of the command.
func HoldCommand(argv []string) (status int, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("hold: %w", err)
	}
	defer read.Close()
	holder := &exec.Cmd{Path: selfExe, Args: argv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{write}}
	signals := make(chan os.Signal, 8)
	catch(signals)
	if err := holder.Start(); err != nil {
		write.Close()
		return 0, fmt.Errorf("hold: %w", err)
	}
	write.Close()
	go func() {
		for s := range signals {
			for _, p := range passedOn {
				if s == p {
					holder.Process.Signal(s)
				}
			}
		}
	}()
	if _, err := fmt.Fscanln(read, &status); err == nil {
		return status, nil
	}
	if err := holder.Wait(); err != nil { // it has said why
		return max(holder.ProcessState.ExitCode(), 1), nil
	}
	return 0, errors.New("internal error: the holder ended without a status")
}

// catch has this process outlive what a terminal sends to its process group.
// What is ignored stays so, also for the command: that is what nohup does.
func catch(c chan os.Signal) {
	for _, s := range append([]os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP}, passedOn...) {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// Exit statuses of a command that did not run, as env(1) and others have them.
const (
	statusCannotExecute = 126
	statusNotFound      = 127
	statusSignal        = 128 // and the number of the signal
)

// BeHolderOf takes a lease, runs a command, and lasts until nothing of it is left.
// It tells HoldCommand how the command itself ended, and returns a status where
// there is no command.
func BeHolderOf(mountpoint, name string, argv []string) (status int, err error) {
	tell := os.NewFile(3, "holder")
	unix.CloseOnExec(3)
	var pipe unix.Stat_t
	if err := unix.Fstat(3, &pipe); err != nil || pipe.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, errors.New("internal error: a holder is started by tokenfs hold")
	}
	signals := make(chan os.Signal, 8)
	catch(signals)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("hold: adopt what the command leaves: %w", err)
	}
	if _, err := takeLease(mountpoint, request{Verb: verbHold, Command: name}); err != nil {
		return 0, err
	}
	path, err := exec.LookPath(argv[0])
	var command *os.Process
	if err == nil {
		command, err = os.StartProcess(path, argv, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	}
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return statusNotFound, fmt.Errorf("hold: %w", err)
		}
		return statusCannotExecute, fmt.Errorf("hold: %w", err)
	}
	go func() {
		for s := range signals {
			for _, p := range passedOn {
				if s == p {
					unix.Kill(command.Pid, s.(unix.Signal))
				}
			}
		}
	}()
	return 0, reapAll(command.Pid, tell)
}

// reapAll waits for every child there is and will be.
func reapAll(command int, tell *os.File) error {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("hold: wait: %w", err)
		case pid == command:
			status := ws.ExitStatus()
			if ws.Signaled() {
				status = statusSignal + int(ws.Signal())
			}
			fmt.Fprintln(tell, status)
			tell.Close()
			leaveTerminal()
		}
	}
}
