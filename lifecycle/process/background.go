package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"
)

// ReadyVar tells a daemon that somebody waits on readyFD for it to be ready. Only
// Start sets it.
const ReadyVar = "_TOKENFS_READY"

const (
	ReadyFD = 3
	ExtraFD = 4 // the first one after that
)

// ErrDaemon is what Start fails with when the daemon has already said why.
type ErrDaemon struct{ ExitCode int }

func (e *ErrDaemon) Error() string { return fmt.Sprintf("the daemon ended with status %d", e.ExitCode) }

// Start runs this program again with argv as a daemon, whose main must come to
// Run, and returns when it is ready; started is false if it ended well before
// that, because it found nothing to do. Until it is ready the daemon has the
// caller's standard error, so that what it has to say, be it a panic, is seen.
func Start(argv ...string) (started bool, err error) {
	s, err := Begin(Command(argv))
	if err != nil {
		return false, err
	}
	return s.Await()
}

// Starting is a daemon that is not ready yet.
type Starting struct {
	Cmd  *exec.Cmd
	read *os.File
}

func Begin(cmd *exec.Cmd) (*Starting, error) {
	if Background() {
		return nil, errors.New("internal error: started as a daemon, main does not come to Run")
	}
	if err := CheckLimits(); err != nil { // here there is all that it takes to say so
		return nil, err
	}
	// A daemon must not keep open what its caller's shell left open.
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("close inherited files: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	defer write.Close()
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append([]*os.File{write}, cmd.ExtraFiles...)
	cmd.Env = append(cmd.Env, ReadyVar+"=3")
	if err := cmd.Start(); err != nil {
		read.Close()
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	return &Starting{cmd, read}, nil
}

// Await returns when the daemon is ready, or has ended.
func (s *Starting) Await() (started bool, err error) {
	defer s.read.Close()
	if ready, err := io.ReadAll(s.read); err == nil && len(ready) > 0 {
		return true, nil
	}
	if err := s.Cmd.Wait(); err != nil {
		return false, &ErrDaemon{max(s.Cmd.ProcessState.ExitCode(), 1)}
	}
	return false, nil
}

// Background says whether this process was started by Start.
func Background() bool { return os.Getenv(ReadyVar) != "" }

// Announce tells Start that the filesystem can be used, and lets go of the
// caller's standard error.
var Announce = sync.OnceValue(func() error {
	if !Background() {
		return nil
	}
	if err := LeaveTerminal(); err != nil {
		return err
	}
	pipe := os.NewFile(ReadyFD, "ready")
	defer pipe.Close()
	_, err := pipe.Write([]byte("ready\n"))
	return err
})

// LeaveTerminal lets go of what a login waits for to be closed.
func LeaveTerminal() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("leave the terminal: %w", err)
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("leave the terminal: %w", err)
		}
	}
	return nil
}
