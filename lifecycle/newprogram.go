package lifecycle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/process"
)

// A keeper notices by itself that the file of its program was replaced, and goes
// on with the new one. So a package's script has nothing to do in a user's name:
// it would run programs as that user, and wait for them.
//
// This goes for a program that only root can replace. Another one takes over when
// somebody asks for it (tokenfs upgrade): the file could be anybody's by then.

const (
	// A file that has not changed for so long is all there, and its package
	// manager does not mean to put the old one back.
	programSettles = 2 * time.Second
	// The keepers of all users are told at the same moment. A rehearsal starts four
	// processes, and what is served meanwhile must not starve.
	programSpread = 8 * time.Second
)

// programRetries are for what keeps a new program from taking over for a while: a
// machine that is busy, or out of memory. After that the next change counts.
var programRetries = []time.Duration{time.Minute, 10 * time.Minute}

// removedMark is made by a package's script before it removes the program, which
// the mark names. A program that is only missing may come again.
const removedMark = "/run/tokenfs/removed"

// Removed is what Run and Resume return where the filesystem ended because its
// program was removed from the machine.
type Removed struct {
	Mountpoint string
	Err        error // as they return otherwise
}

func (r *Removed) Error() string {
	return fmt.Sprintf("the program was removed, and so %s was unmounted", r.Mountpoint)
}

// ProgramStatus is about the file of the keeper's program.
type ProgramStatus struct {
	Path     string `json:"path"`
	Watched  bool   `json:"watched"`  // a new one there takes over by itself
	Replaced bool   `json:"replaced"` // it is another one by now, or none
	Detail   string `json:"detail"`   // why it is not watched, or does not take over
}

// A programWatch is what a keeper knows of the file it runs, and of the one that
// is there now.
type programWatch struct {
	gone chan struct{} // closed when the program was removed

	mu      sync.Mutex
	watched bool
	detail  string
}

func newProgramWatch() *programWatch { return &programWatch{gone: make(chan struct{})} }

func (w *programWatch) note(watched bool, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched, w.detail = watched, detail
}

// watchProgram goes on until the keeper ends, or is another program.
func (d *daemon) watchProgram() {
	path := d.program.Path
	if d.run.Command {
		d.programs.note(false, "tokenfs run goes on with the program that it was started with")
		return
	}
	if err := d.program.onlyRoots(); err != nil {
		d.programs.note(false, fmt.Sprintf("%v: a new program takes over when it is asked to: tokenfs upgrade", err))
		return
	}
	changed, err := watchFile(path)
	if err != nil {
		d.programs.note(false, fmt.Sprintf("%v: a new program takes over when it is asked to: tokenfs upgrade", err))
		return
	}
	d.programs.note(true, "")
	// It may have been replaced before it was watched.
	next := time.NewTimer(settled())
	for tries := 0; ; {
		select {
		case _, ok := <-changed:
			if !ok {
				changed = nil
				d.programs.note(false, filepath.Dir(path)+" was removed")
			}
			tries = 0
			next.Reset(settled())
			continue
		case <-next.C:
		}
		switch replaced, missing := replacedProgram(path); {
		case missing && markedRemoved(removedMark, path):
			close(d.programs.gone)
			return
		case missing:
			d.programs.note(changed != nil, "it is not there any more, and may come again")
			continue
		case !replaced:
			d.programs.note(changed != nil, "")
			continue
		}
		if goOn, err := d.upgrade(); err == nil {
			goOn() // which is the end of this program, or says why not
		} else {
			d.programs.note(changed != nil, err.Error())
			d.journal.logf("%v", err)
		}
		if tries < len(programRetries) {
			next.Reset(programRetries[tries])
			tries++
		}
	}
}

func settled() time.Duration { return programSettles + rand.N(programSpread) }

// replacedProgram compares the file at path with what this process runs.
func replacedProgram(path string) (replaced, missing bool) {
	var now, running unix.Stat_t
	if err := unix.Stat(process.Program, &running); err != nil {
		return false, false
	}
	err := unix.Lstat(path, &now)
	missing = errors.Is(err, unix.ENOENT)
	return missing || err == nil && (now.Dev != running.Dev || now.Ino != running.Ino), missing
}

// onlyRoots is an error if others than root could replace a program.
func (p program) onlyRoots() error {
	if !p.Trusted {
		return fmt.Errorf("%s is not root's", p.Path)
	}
	f, err := mount.OpenRootsAlone(p.Path)
	if err == nil {
		f.Close()
	}
	return err
}

// markedRemoved says whether a mark of root's names the program. It is in memory,
// which is mounted nosuid as a rule, so that openRootsAlone would not do.
func markedRemoved(mark, program string) bool {
	for path := mark; ; path = filepath.Dir(path) {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || !trusted(&st) {
			return false
		}
		if path == "/" {
			break
		}
	}
	named, err := os.ReadFile(mark)
	return err == nil && strings.TrimSpace(string(named)) == program
}

func (d *daemon) programStatus() ProgramStatus {
	replaced, _ := replacedProgram(d.program.Path)
	w := d.programs
	w.mu.Lock()
	defer w.mu.Unlock()
	st := ProgramStatus{Path: d.program.Path, Watched: w.watched, Replaced: replaced, Detail: w.detail}
	if replaced && st.Watched && st.Detail == "" {
		st.Detail = "this takes a few seconds"
	}
	return st
}

// endForRemoval is how a filesystem ends whose program was removed.
func (d *daemon) endForRemoval() error {
	err := d.stop()
	if atDefault(d.mount.Path) {
		os.Remove(d.mount.Path) // nobody will mount on it again
	}
	return &Removed{d.mount.Path, err}
}
