package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/process"
	"tokenfs/lifecycle/session"
)

// A lease for a command lasts as long as the command and all that it leaves in
// the background: tmux, screen and mosh-server are there only after the process
// that was started has ended. So a process of its own, the holder, starts the
// command and adopts what the command leaves; and the one that the shell waits
// for ends with the command.

// Hold keeps the filesystem for a time.
func Hold(mountpoint string, d time.Duration) (session.Lease, error) {
	return takeLease(mountpoint, request{Verb: verbHold, Seconds: int64(d / time.Second)})
}

func takeLease(mountpoint string, r request) (session.Lease, error) {
	c, err := dial(mountpoint)
	if err != nil {
		return session.Lease{}, err
	}
	defer c.close()
	answer, err := c.ask(r, answerTimeout)
	if err == nil && answer.Lease == nil {
		err = fmt.Errorf("the daemon (pid %d) answered without a lease", c.server.Pid)
	}
	if err != nil {
		return session.Lease{}, err
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

// stopping are the signals of job control, which all three processes of a held
// command get and obey for themselves.
var stopping = []os.Signal{unix.SIGTSTP, unix.SIGCONT}

// HoldCommand runs this program with argv, whose main must come to BeHolderOf, and
// returns with the exit status of the command.
func HoldCommand(argv []string) (status int, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("hold: %w", err)
	}
	defer read.Close()
	var pidfd int
	holder := &exec.Cmd{Path: process.Program, Args: argv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{write},
		SysProcAttr: &unix.SysProcAttr{PidFD: &pidfd}}
	received := process.CollectSignals(stopping...)
	if err := holder.Start(); err != nil {
		write.Close()
		return 0, fmt.Errorf("hold: %w", err)
	}
	write.Close()
	go process.PassOn(received, pidfd)
	if _, err := fmt.Fscanln(read, &status); err == nil {
		return status, nil
	}
	if err := holder.Wait(); err != nil { // it has said why
		return max(holder.ProcessState.ExitCode(), 1), nil
	}
	return 0, errors.New("internal error: the holder ended without a status")
}

// Exit statuses of a command that did not run, as env(1) and others have them.
const (
	statusCannotExecute = 126
	statusNotFound      = 127
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
	received := process.CollectSignals(stopping...)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("hold: adopt what the command leaves: %w", err)
	}
	if _, err := takeLease(mountpoint, request{Verb: verbHold, Command: name}); err != nil {
		return 0, err
	}
	path, err := exec.LookPath(argv[0])
	var command *os.Process
	var pidfd int
	if err == nil {
		command, err = os.StartProcess(path, argv, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
			Sys: &unix.SysProcAttr{PidFD: &pidfd}})
	}
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return statusNotFound, fmt.Errorf("hold: %w", err)
		}
		return statusCannotExecute, fmt.Errorf("hold: %w", err)
	}
	go process.PassOn(received, pidfd)
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
				status = process.StatusSignal + int(ws.Signal())
			}
			fmt.Fprintln(tell, status)
			tell.Close()
			process.LeaveTerminal()
		}
	}
}
