package attack

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// An order is what the attacker is to do: attack whatever descends from a
// process, until its standard input ends; and meanwhile to kill children of
// Kill, one after the other, each as soon as File can be read.
type order struct {
	Below int // attack descendants of this process, and itself if Self
	Self  bool
	Named bool   // only those that are called like ours
	Kill  int    // whose children to kill; 0: none
	Kills int    // how many
	File  string // that a new one serves; "": wait for a moment instead
	Trace bool   // ptrace, too

	Upgrade string // the command, to be upgraded after every fifth kill
}

// A report is what came of it.
type report struct {
	UID      int
	Kills    int
	Upgrades int
	Targets  int            // different processes that were attacked
	Tries    map[string]int // by way
	Refused  map[string]int // tries that the kernel answered with a no, not with "no such process"
	Reached  map[string]int // processes that were got at
	Slowest  time.Duration  // from a kill to the next answer
	LastFile string         // what was in File at the end
	Trouble  string
}

type attacker struct {
	order
	mu      sync.Mutex
	report  report
	reached map[string]map[int]bool
	seen    map[int]time.Time
	over    atomic.Bool
}

func newAttacker(o order) *attacker {
	return &attacker{order: o, reached: map[string]map[int]bool{}, seen: map[int]time.Time{},
		report: report{UID: os.Getuid(), Tries: map[string]int{}, Refused: map[string]int{}, Reached: map[string]int{}}}
}

const attackerName = "attacker"

// attackerMain is this program as the attacker.
func attackerMain() {
	var o order
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	a := newAttacker(o)
	var all sync.WaitGroup
	for range 2 {
		all.Go(a.reachProcesses)
	}
	all.Go(a.connectToAll)
	if o.Kill != 0 {
		a.killThem()
	} else {
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	a.over.Store(true)
	all.Wait()
	for name, pids := range a.reached {
		a.report.Reached[name] = len(pids)
	}
	a.report.Targets = len(a.seen)
	json.NewEncoder(os.Stdout).Encode(a.report)
	os.Exit(0)
}

// note records a try, and whether it got anywhere.
func (a *attacker) note(name string, pid int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Tries[name]++
	switch {
	case err == nil:
		if a.reached[name] == nil {
			a.reached[name] = map[int]bool{}
		}
		a.reached[name][pid] = true
	case err != unix.ESRCH && err != unix.ENOENT:
		a.report.Refused[name]++
	}
}

// fresh says whether a process is young enough to be worth all attention.
func (a *attacker) fresh(pid int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, known := a.seen[pid]
	if !known {
		since = time.Now()
		a.seen[pid] = since
	}
	return time.Since(since) < 15*time.Millisecond
}

func (a *attacker) reachProcesses() {
	runtime.LockOSThread() // who traces a process is a thread
	all := ways
	if a.Trace {
		all = append(append([]way{}, ways...), tracing...)
	}
	attack := func(pid int) {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return
		}
		defer unix.Close(pidfd)
		for {
			for _, w := range all {
				a.note(w.name, pid, w.try(pid, pidfd))
			}
			if !a.fresh(pid) || a.over.Load() || unix.Kill(pid, 0) != nil || isZombie(pid) {
				return
			}
		}
	}
	for !a.over.Load() {
		if a.Self {
			attack(a.Below)
		}
		for _, pid := range descendants(a.Below) {
			if !a.Named || isTokenfs(pid) {
				attack(pid)
			}
		}
	}
}

// isTokenfs knows a process by its name, which it has from its exec on: that of
// its file, or "exe" where the kernel takes the last part of /proc/self/exe.
func isTokenfs(pid int) bool {
	comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	name := strings.TrimSpace(string(comm))
	return strings.HasPrefix(name, "tokenfs") || name == "exe"
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// descendants leaves the attacker itself alone, and all that is its own.
func descendants(pid int) (pids []int) {
	for _, c := range children(pid) {
		if c != os.Getpid() {
			pids = append(append(pids, c), descendants(c)...)
		}
	}
	return pids
}

// ours says whether a process is one of those to be attacked.
func (a *attacker) ours(pid int) bool {
	return pid == a.Below || slices.Contains(descendants(a.Below), pid)
}

// connectToAll looks for processes that listen where anybody can connect, and
// takes what they give.
func (a *attacker) connectToAll() {
	for !a.over.Load() {
		for _, name := range abstractSockets() {
			if err := connectTo(name, a.ours); err != errOther {
				a.note(listening, 0, err)
			}
		}
	}
}

// killThem kills one process after the other and waits for the next to serve.
func (a *attacker) killThem() {
	for a.report.Kills < a.Kills {
		kids := children(a.Kill)
		if len(kids) == 0 {
			if unix.Kill(a.Kill, 0) != nil || isZombie(a.Kill) {
				a.report.Trouble = "the parent is gone"
				return
			}
			continue
		}
		start := time.Now()
		if isZombie(kids[0]) || unix.Kill(kids[0], unix.SIGKILL) != nil {
			continue
		}
		a.report.Kills++
		if a.File == "" {
			for time.Since(start) < 30*time.Millisecond && !a.over.Load() {
				runtime.Gosched()
			}
			continue
		}
		giveUp := time.AfterFunc(20*time.Second, func() { os.Exit(1) })
		b, err := os.ReadFile(a.File)
		giveUp.Stop()
		if err != nil {
			a.report.Trouble = err.Error()
			return
		}
		a.report.LastFile = string(b)
		a.report.Slowest = max(a.report.Slowest, time.Since(start))
		if a.Upgrade != "" && a.report.Kills%5 == 0 {
			if said, err := exec.Command(a.Upgrade, "upgrade").CombinedOutput(); err != nil {
				a.report.Trouble = fmt.Sprintf("upgrade: %v: %s", err, said)
				return
			}
			a.report.Upgrades++
		}
	}
}
