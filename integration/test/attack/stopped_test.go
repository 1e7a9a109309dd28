package attack

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/installed"
)

// Processes of a filesystem, by their names.
const (
	theKeeper = "tokenfs"
	theHolder = "tokenfs-holder"
	theWorker = "tokenfs-worker"
)

// A moment of an upgrade is one that anybody can see who looks at the names of
// processes.
type moment struct {
	name  string
	there []string // who can be struck then
	seen  func(*victim) bool
}

var moments = []moment{
	{"before", []string{theKeeper, theWorker}, func(s *victim) bool { return true }},
	{"the holder is there", []string{theKeeper, theHolder, theWorker}, func(s *victim) bool { return s.child(theHolder) != 0 }},
	{"the keeper executes", []string{theKeeper, theHolder}, func(s *victim) bool { return nameOf(s.keeper) != theKeeper }},
	{"the new keeper runs", []string{theKeeper, theHolder}, func(s *victim) bool {
		s.executed = s.executed || nameOf(s.keeper) != theKeeper
		return s.executed && nameOf(s.keeper) == theKeeper
	}},
	{"the new worker starts", []string{theKeeper, theWorker}, func(s *victim) bool {
		w := s.child(theWorker)
		return w != 0 && w != s.worker
	}},
}

// A blow is struck against some of the processes, in this order.
type blow struct {
	name    string
	strikes []strike
}

type strike struct {
	signal unix.Signal
	at     string
}

func (b blow) possible(m moment) bool {
	return !slices.ContainsFunc(b.strikes, func(s strike) bool { return !slices.Contains(m.there, s.at) })
}

var blows = []blow{
	{"stop the keeper", []strike{{unix.SIGSTOP, theKeeper}}},
	{"kill the keeper", []strike{{unix.SIGKILL, theKeeper}}},
	{"stop the holder", []strike{{unix.SIGSTOP, theHolder}}},
	{"kill the holder", []strike{{unix.SIGKILL, theHolder}}},
	{"stop the worker", []strike{{unix.SIGSTOP, theWorker}}},
	{"kill the worker", []strike{{unix.SIGKILL, theWorker}}},
	{"stop keeper and holder", []strike{{unix.SIGSTOP, theKeeper}, {unix.SIGSTOP, theHolder}}},
	{"stop the holder, kill the keeper", []strike{{unix.SIGSTOP, theHolder}, {unix.SIGKILL, theKeeper}}},
	{"stop the keeper, kill the holder", []strike{{unix.SIGSTOP, theKeeper}, {unix.SIGKILL, theHolder}}},
	{"stop the keeper, kill the worker", []strike{{unix.SIGSTOP, theKeeper}, {unix.SIGKILL, theWorker}}},
	{"stop the worker, kill the keeper", []strike{{unix.SIGSTOP, theWorker}, {unix.SIGKILL, theKeeper}}},
	{"stop keeper and holder, kill the worker", []strike{{unix.SIGSTOP, theKeeper}, {unix.SIGSTOP, theHolder}, {unix.SIGKILL, theWorker}}},
}

// answeredWithin is the longest that a client may wait: the kernel's timer on a
// process that is stopped, and what then ends or starts others.
const answeredWithin = 45 * time.Second

var thorough = flag.Bool("thorough", false, "strike every blow at every moment, which takes minutes")

// Whatever is stopped or killed in an upgrade, and when: either the session goes
// on, or nobody has the keys any more, and clients get an answer in bounded time.
func TestUpgradeUnderBlows(t *testing.T) {
	var victims []*victim
	possible, wanted := 0, 0
	for _, m := range moments {
		for _, b := range blows {
			if !b.possible(m) {
				continue
			}
			// Four of five are left out, others at each moment.
			if possible++; !*thorough && possible%5 != 1 {
				continue
			}
			wanted++
			if s := play(t, m, b); s != nil {
				victims = append(victims, s)
			} else {
				t.Logf("%s: %s: never came to it", m.name, b.name)
			}
		}
	}
	ends := map[string]int{}
	for _, s := range victims { // all have been waiting meanwhile
		end, took := s.end()
		ends[end]++
		t.Logf("%-22s %-40s %s, after %v", s.when, s.what, end, took.Round(10*time.Millisecond))
	}
	if len(victims) < wanted*2/3 {
		t.Errorf("of %d blows only %d were struck", wanted, len(victims))
	}
	if ends[goesOn] == 0 || ends[isOver] == 0 {
		t.Errorf("every end is the same: %v", ends)
	}
}

// Ends of a victim.
const (
	goesOn = "it goes on"
	isOver = "it is over"
)

// A victim is a filesystem that was struck, and a client that waits for it.
type victim struct {
	*installed.User
	when, what     string
	keeper, worker int
	executed       bool
	struck         time.Time
	client         *exec.Cmd
	out            bytes.Buffer
	answered       chan time.Time
}

// play upgrades until the blow could be struck at the moment; nil if it never could.
func play(t *testing.T, m moment, b blow) *victim {
	t.Helper()
	for range 10 {
		u := installed.New(t, command(t), installed.Packaged)
		u.Must("mount")
		u.Shell("echo still here > " + u.Path("x"))
		before := u.Status()
		s := &victim{User: u, when: m.name, what: b.name, keeper: before.Mount.PID, worker: before.Worker.PID, answered: make(chan time.Time, 1)}
		if !s.strike(m, b) {
			s.leave()
			continue
		}
		s.client = u.Program("cat", u.Path("x"))
		s.client.Stdout, s.client.Stderr = &s.out, &s.out
		if err := s.client.Start(); err != nil {
			t.Fatal(err)
		}
		// One that waits in the kernel cannot even be killed before the rest is.
		late := time.AfterFunc(answeredWithin, func() { s.client.Process.Kill(); s.leave() })
		go func() {
			s.client.Wait()
			late.Stop()
			s.answered <- time.Now()
		}()
		return s
	}
	return nil
}

func (s *victim) strike(m moment, b blow) bool {
	upgrade := s.Program(s.Command, "upgrade")
	if err := upgrade.Start(); err != nil {
		s.Fatal(err)
	}
	over := make(chan struct{})
	go func() { upgrade.Wait(); close(over) }()
	for !m.seen(s) {
		select {
		case <-over:
			return false
		default:
		}
	}
	s.struck = time.Now()
	for _, one := range b.strikes {
		pid := s.keeper
		if one.at != theKeeper {
			pid = s.child(one.at)
		}
		if pid == 0 || unix.Kill(pid, one.signal) != nil {
			return false
		}
	}
	return true
}

// end waits for the client and says how it ended. The session then either goes on
// for good, or nothing is left of it.
func (s *victim) end() (how string, took time.Duration) {
	defer s.leave()
	label := fmt.Sprintf("%s: %s", s.when, s.what)
	if took = (<-s.answered).Sub(s.struck); took >= answeredWithin {
		s.Errorf("%s: a client waited for %v", label, took)
		return "it hangs", took
	}
	if s.client.ProcessState.Success() && s.out.String() != "still here\n" {
		s.Errorf("%s: the file holds %q", label, s.out.String())
	}
	// Whoever holds the keys without serving them does not do so for long.
	for time.Since(s.struck) < answeredWithin && slices.Contains(slices.Collect(maps.Values(s.processes())), theHolder) {
		time.Sleep(10 * time.Millisecond)
	}
	for pid, name := range s.processes() {
		if name == theHolder {
			s.Errorf("%s: a holder is still there after %v", label, answeredWithin)
		}
		unix.Kill(pid, unix.SIGCONT)
	}
	var said, held string
	s.Eventually(label+": it goes on or is over", answeredWithin, func() bool {
		var status, read int
		said, status = s.Run("status", "--json")
		held, read = s.End(s.Program("cat", s.Path("x")))
		switch {
		case status == 0 && read == 0:
			how = goesOn
		case status != 0 && read != 0 && len(s.holding()) == 0:
			how = isOver
		}
		return how != ""
	})
	if how == goesOn && held != "still here\n" {
		s.Errorf("%s: in the end the file holds %q: %s", label, held, said)
	}
	return how, took
}

// leave takes it away, whatever its state.
func (s *victim) leave() {
	for pid := range s.processes() {
		unix.Kill(pid, unix.SIGKILL)
	}
	for _, point := range s.Mounts() {
		unix.Unmount(point, unix.MNT_DETACH)
	}
}

// processes are those of the user's command that live, with their names.
func (s *victim) processes() map[int]string {
	found := map[int]string{}
	for _, pid := range s.Processes() {
		if !installed.Ended(pid) {
			found[pid] = nameOf(pid)
		}
	}
	return found
}

// holding are those that have something of the filesystem.
func (s *victim) holding() map[int]string {
	found := s.processes()
	for pid := range found {
		list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if !slices.ContainsFunc(list, func(fd string) bool {
			file, _ := os.Readlink(fd)
			return file == "/dev/fuse" || strings.HasPrefix(file, "/memfd:tokenfs") || strings.HasPrefix(file, "/secretmem")
		}) {
			delete(found, pid)
		}
	}
	return found
}

// child is the keeper's, of a name; 0 if there is none.
func (s *victim) child(name string) int {
	for _, pid := range children(s.keeper) {
		if nameOf(pid) == name && !isZombie(pid) {
			return pid
		}
	}
	return 0
}

func nameOf(pid int) string {
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.TrimSpace(string(name))
}
