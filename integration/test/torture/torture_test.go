package torture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// everybody is who works at once, and how many of each.
var everybody = []string{"names", "names", "names", "register", "register", "append", "append", "append",
	"exclude", "exclude", "flock", "flock", "mapping", "mapping", "posix", "posix", "handles", "list", "victim",
	"saves", "saves", "saves", "kept", "kept", "ping", "sqlite", "sqlite", "git", "msal"}

func all() []string {
	without := strings.Split(*without, ",")
	return slices.DeleteFunc(slices.Clone(everybody), func(role string) bool { return slices.Contains(without, role) })
}

// A crew is a set of clients at work in one directory.
type crew struct {
	dir, tmp string
	stop     string
	logs     []string
	failed   chan string
	work     sync.WaitGroup
	cmds     []*exec.Cmd
}

// start starts clients in a new directory on the filesystem.
func start(t *testing.T, dir string, seed uint64, roles ...string) *crew {
	t.Helper()
	tmp := t.TempDir()
	c := &crew{dir: dir, tmp: tmp, stop: filepath.Join(tmp, "stop"), failed: make(chan string, len(roles))}
	if err := c.prepare(slices.Contains(roles, "sqlite")); err != nil {
		t.Fatal(err)
	}
	for i, role := range roles {
		log := filepath.Join(tmp, fmt.Sprint(role, i))
		c.logs = append(c.logs, log)
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(i), strconv.FormatUint(seed, 10), dir, c.stop, log)
		cmd.Env = append(os.Environ(), roleVar+"="+role)
		cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // some start processes of their own
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var ended atomic.Bool
		t.Cleanup(func() {
			if !ended.Load() {
				unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			}
		})
		c.cmds = append(c.cmds, cmd)
		c.work.Go(func() {
			err := cmd.Wait()
			ended.Store(true)
			if err != nil {
				c.failed <- fmt.Sprintf("client %d: %v: %s", i, err, bytes.TrimSpace(out.Bytes()))
			}
		})
	}
	return c
}

func (c *crew) prepare(sqlite bool) error {
	first := pattern(0, registerSize)
	binary.LittleEndian.PutUint64(first, 0)
	var ping [8]byte
	binary.LittleEndian.PutUint64(ping[:], 42)
	err := os.Mkdir(c.dir, 0o700)
	for name, content := range map[string][]byte{
		"register": first, "replaced": first, "journal": nil, "exclude": []byte("0"),
		"cache": edition(0), "flock": make([]byte, 8), "mapped": make([]byte, 4*4096), "pinged": ping[:],
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(c.dir, name), content, 0o600))
	}
	if err != nil || !sqlite {
		return err
	}
	s, err := openShell(filepath.Join(c.dir, "wal.db"))
	if err != nil {
		return err
	}
	said, err := s.ask("PRAGMA journal_mode=wal; CREATE TABLE t(id UNIQUE, n, filler);")
	if err == nil && said != "wal" {
		err = fmt.Errorf("sqlite3 does not take WAL mode here and says %q", said)
	}
	return errors.Join(err, s.close())
}

// ok says whether no client has failed so far.
func (c *crew) ok(t *testing.T) bool {
	t.Helper()
	for {
		select {
		case why := <-c.failed:
			t.Error(why)
		default:
			return !t.Failed()
		}
	}
}

// end has the clients end, and fails if one had failed, or does not.
func (c *crew) end(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(c.stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { c.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(90 * time.Second):
		for i, cmd := range c.cmds {
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); err == nil {
				where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", cmd.Process.Pid))
				t.Errorf("client %d does not end; it is in %s: %.60s", i, where, stat)
				cmd.Process.Kill()
			}
		}
	}
	c.ok(t)
}

// A tally is what clients and tormentor saw.
type tally struct {
	ops     int
	kills   int
	random  int
	starts  int // of them, during the start of a worker
	points  map[string]int
	missed  map[string]int
	ups     int
	times   Times
	pauses  []time.Duration // one a kill
	gaveUp  int             // MSAL on its lock
	caches  int
	started time.Time
}

func newTally() *tally {
	return &tally{points: map[string]int{}, missed: map[string]int{}, started: time.Now()}
}

// judge checks what the clients logged against the models.
func (c *crew) judge(t *testing.T, sum *tally) {
	t.Helper()
	objects := map[string][]Op{}
	for _, path := range c.logs {
		ops, times, err := readLog(path)
		if err != nil {
			t.Fatal(err)
		}
		sum.times.merge(&times)
		for _, op := range ops {
			objects[op.Object] = append(objects[op.Object], op)
		}
	}
	if ops := objects["journal"]; len(ops) > 0 {
		c.judgeJournal(t, ops)
	}
	objects["saves"] = judgeSaves(t, objects["saves"])
	for object, model := range map[string]Model{"saves": Register, "names": Names, "in-place": Register, "replaced": Register,
		"journal": Counter, "exclude": Counter, "flock": Counter, "sqlite": Counter} {
		ops := objects[object]
		sum.ops += len(ops)
		if wrong := Linearizable(ops, State{}, model); wrong != nil {
			t.Errorf("%s: of %d operations, no order explains %v; around it there were:%s", object, len(ops), wrong, around(ops, wrong))
		}
	}
	counted := int64(0)
	for _, op := range objects["mapped"] {
		counted += op.Result
	}
	c.judgeMapped(t, counted)
	for _, op := range objects["msal"] {
		sum.caches++
		if op.Kind == "gave-up" {
			sum.gaveUp++
		}
	}
	if len(objects["sqlite"]) > 0 {
		s, err := openShell(filepath.Join(c.dir, "wal.db"))
		if err != nil {
			t.Fatal(err)
		}
		said, err := s.ask("PRAGMA integrity_check; SELECT count(*), min(n), max(n) FROM t;")
		if n := len(objects["sqlite"]); err != nil || said != fmt.Sprintf("ok\n%d|0|%d", n, n-1) {
			t.Errorf("after %d inserts the database says %q, %v", n, said, err)
		}
		s.close()
	}
}

// judgeJournal gives each append the place that it got.
func (c *crew) judgeJournal(t *testing.T, ops []Op) {
	t.Helper()
	place, err := journal(filepath.Join(c.dir, "journal"))
	if err != nil {
		t.Error(err)
	}
	if len(place) != len(ops) {
		t.Errorf("%d appends were done, and %d are in the file", len(ops), len(place))
	}
	for i := range ops {
		at, ok := place[ops[i].A]
		if !ok {
			t.Errorf("lost: %v", ops[i])
		}
		ops[i].Kind, ops[i].Result = "next", at
	}
}

func (c *crew) judgeMapped(t *testing.T, counted int64) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "mapped"))
	if err != nil {
		t.Error(err)
		return
	}
	for page := range 4 {
		if n := int64(binary.LittleEndian.Uint64(b[page*4096:])); n != counted {
			t.Errorf("page %d of a shared mapping was counted up to %d, and %d times", page, n, counted)
		}
	}
}

// around are the operations that overlap one, or nearly.
func around(ops []Op, wrong *Op) string {
	var list []Op
	for _, op := range ops {
		if op.End > wrong.Start-int64(20*time.Millisecond) && op.Start < wrong.End+int64(time.Millisecond) {
			list = append(list, op)
		}
	}
	slices.SortFunc(list, func(a, b Op) int { return int(a.Start - b.Start) })
	var text strings.Builder
	for _, op := range list[max(0, len(list)-40):] {
		fmt.Fprintf(&text, "\n\t%v", op)
	}
	return text.String()
}

// A tormentor kills workers, one after the other.
type tormentor struct {
	*subject
	rng    *rand.Rand
	sum    *tally
	todo   []point
	early  int // kills in a row of workers that had not begun to serve
	moment []interval
}

// interval is when a kill happened, as far as is known.
type interval struct{ from, to int64 }

// kill kills one worker, one way or another.
func (k *tormentor) kill(t *testing.T) {
	old := k.worker(t, 0)
	from := clock()
	if k.early == 0 && k.rng.IntN(2) == 0 {
		if !k.killAt(t, k.next()) {
			return
		}
	} else {
		unix.Kill(old, unix.SIGKILL)
		k.sum.random++
	}
	k.worker(t, old)
	k.sum.kills++
	if k.early < 2 && k.rng.IntN(8) == 0 { // once more, while it starts
		k.early++
		k.sum.starts++
		time.Sleep(time.Duration(k.rng.IntN(15000)) * time.Microsecond) // at random moments
	} else {
		k.early = 0
		k.served(t)
		k.moment = append(k.moment, interval{from, clock()})
		k.ready(t)
		time.Sleep(time.Duration(k.rng.IntN(40000)) * time.Microsecond)
	}
}

func (k *tormentor) next() point {
	if len(k.todo) == 0 {
		k.todo = points()
		k.rng.Shuffle(len(k.todo), func(i, j int) { k.todo[i], k.todo[j] = k.todo[j], k.todo[i] })
	}
	p := k.todo[0]
	k.todo = k.todo[1:]
	return p
}

// killAt has the worker die at a point; false if it never comes there.
func (k *tormentor) killAt(t *testing.T, p point) bool {
	k.dieAt(p)
	wait := time.Second
	switch {
	case strings.HasPrefix(p.name, "replay"):
		unix.Kill(k.worker(t, 0), unix.SIGKILL)
		k.sum.kills++
		k.sum.random++
	case strings.HasPrefix(p.name, "checkpoint") || p.name == "superblock sealed":
		wait = 5 * time.Second
	}
	for deadline := time.Now().Add(wait); k.pending(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			if !k.cancel() {
				k.sum.missed[p.String()]++
				return false
			}
		}
	}
	k.sum.points[p.String()]++
	return true
}

// upgrade replaces the binary by itself, and the running processes by it.
func (k *tormentor) upgrade(t *testing.T) {
	if err := replaceFile(k.command, k.command); err != nil {
		t.Fatal(err)
	}
	from := clock()
	k.Run(t, "upgrade")
	k.served(t)
	if pid := k.status(t).Mount.PID; pid != k.keeper {
		t.Errorf("after an upgrade process %d answers, not %d", pid, k.keeper)
		k.keeper = pid
	}
	k.moment = append(k.moment, interval{from, clock()})
	k.sum.ups++
}

// pauses finds out how long the longest wait was around each kill.
func (k *tormentor) pauses(t *testing.T, c *crew) {
	var pings []Op
	for _, path := range c.logs {
		if strings.HasPrefix(filepath.Base(path), "ping") {
			ops, _, err := readLog(path)
			if err != nil {
				t.Fatal(err)
			}
			pings = append(pings, ops...)
		}
	}
	for _, m := range k.moment {
		longest := int64(0)
		for _, p := range pings {
			if p.Start < m.to && p.End > m.from {
				longest = max(longest, p.End-p.Start)
			}
		}
		k.sum.pauses = append(k.sum.pauses, time.Duration(longest))
	}
	k.moment = nil
}

// TestTorture is the whole of it: rounds of clients at work, killed workers,
// and a judgement.
func TestTorture(t *testing.T) {
	s := newSubject(t, "--size=512M", "--whole-saves=on")
	k := &tormentor{subject: s, rng: rand.New(rand.NewPCG(*seed, 3)), sum: newTally()}
	t.Logf("seed %d", *seed)
	canUpgrade := *upgrades > 0 && s.canUpgrade()
	if !canUpgrade {
		t.Log("NOT RUN: upgrades in between: the command has none, or -upgrades=0")
	}
	var usages []usage
	const perRound = 110
	for round := 0; k.sum.kills < *kills || time.Since(k.sum.started) < *duration; round++ {
		c := start(t, filepath.Join(s.Dir, fmt.Sprint("round", round)), *seed+uint64(round), all()...)
		until := k.sum.kills + perRound
		if *duration == 0 {
			until = min(until, *kills)
		}
		for c.ok(t) && k.sum.kills < until {
			k.kill(t)
			if canUpgrade && k.early == 0 && k.rng.IntN(max(1, *kills / *upgrades)) == 0 {
				k.upgrade(t)
			}
		}
		c.end(t)
		if t.Failed() {
			t.Log(k.sum)
			t.FailNow()
		}
		c.judge(t, k.sum)
		k.pauses(t, c)
		k.saved(t)
		if err := os.RemoveAll(c.dir); err != nil {
			t.Fatal(err)
		}
		s.balanced(t)
		usages = append(usages, measure(s.keeper))
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Log(k.sum)
	t.Logf("the keeper after each round: %v", usages)
	k.flat(t, usages)
	k.tidy(t)
	k.unharmed(t)
}

// saved wants no save to be under way, of who is gone.
func (s *subject) saved(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		open := s.status(t).Content.Drafts.Open
		if len(open) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("saves are under way of who is gone: %+v", open)
			return
		}
	}
}

// flat wants the keeper not to have grown.
func (s *subject) flat(t *testing.T, usages []usage) {
	first, last := usages[0], usages[len(usages)-1]
	if last.fds > first.fds || last.threads > first.threads+8 || last.rss > first.rss+8<<20 {
		t.Errorf("the keeper grew from %v to %v", first, last)
	}
}

// tidy wants one worker and nothing else.
func (s *subject) tidy(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		children := s.children()
		if len(children) == 1 && !strings.Contains(children[0], ") Z") {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the keeper's children are %q", children)
			return
		}
	}
}

func (s *tally) String() string {
	slices.Sort(s.pauses)
	var b strings.Builder
	reached := 0
	for _, n := range s.points {
		reached += n
	}
	fmt.Fprintf(&b, "%d kills in %v: %d at random, %d of workers that were starting, %d at %d different points; %d upgrades\n",
		s.kills, time.Since(s.started).Round(time.Second), s.random, s.starts, reached, len(s.points), s.ups)
	fmt.Fprintf(&b, "%d operations judged of %d timed; p50 %v, p99 %v, p99.9 %v, longest %v\n",
		s.ops, s.times.total(), s.times.quantile(.5), s.times.quantile(.99), s.times.quantile(.999), s.times.Longest.Round(10*time.Microsecond))
	if n := len(s.pauses); n > 0 {
		fmt.Fprintf(&b, "pauses, one a kill or upgrade: p50 %v, p99 %v, longest %v\n",
			s.pauses[n/2].Round(10*time.Microsecond), s.pauses[n*99/100].Round(10*time.Microsecond), s.pauses[n-1].Round(10*time.Microsecond))
	}
	fmt.Fprintf(&b, "MSAL: %d caches filled, on %d of them it gave up on its lock\n", s.caches, s.gaveUp)
	if len(s.missed) > 0 {
		fmt.Fprintf(&b, "points that nothing came to in time: %v\n", s.missed)
	}
	return b.String()
}
