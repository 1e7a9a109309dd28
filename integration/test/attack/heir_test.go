package attack

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
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

var heirs = flag.Int("heirs", 4, "how often to take the pid of a keeper that was killed in its exec")

// A plot is what the plotter is to do: upgrade, kill the keeper in its exec, start
// processes until one of them has its pid, and let that one, the heir, take
// whatever is to be had.
type plot struct {
	Command    string
	Heir       string
	Mountpoint string
	Times      int
	StopHolder bool // so that its patience is no matter
}

// What came of it.
type spoils struct {
	Kills   int // of keepers in their exec
	Heirs   int // processes that had a dead keeper's pid
	Stolen  int // descriptors that they were given
	Holders int // that were still there much later than they may be
	Hung    int // clients that got no answer
	Trouble string
}

// fewPids is the limit in the plotter's namespace, of which the kernel leaves out
// the first 300 when they come round.
const fewPids = 700

const (
	plotterName = "plotter"
	heirName    = "heir"
)

// A pid is no proof: whoever has that of a keeper that was killed in the exec of
// an upgrade gets nothing, and the holder ends with the keeper. In a namespace with
// few pids they soon come round.
func TestHeirToAPidGetsNothing(t *testing.T) {
	if !newerThan(t, 6, 14) {
		t.Skip("NOT RUN: before Linux 6.14 the number of pids is not a namespace's own, and they do not come round soon")
	}
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprintf("holder stopped %v", stop), func(t *testing.T) {
			u := installed.New(t, command(t), installed.Packaged)
			program := filepath.Join(u.Top, plotterName)
			if err := installed.Copy("/proc/self/exe", program, 0o755); err != nil {
				t.Fatal(err)
			}
			heir := filepath.Join(u.Top, heirName)
			if err := os.Symlink(program, heir); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(plot{u.Command, heir, u.Mountpoint(), *heirs, stop})
			if err != nil {
				t.Fatal(err)
			}
			// The shell collects the processes that lose their parents.
			cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
				`echo "$1" >/proc/sys/kernel/pid_max && setpriv --reuid="$2" --regid="$2" --clear-groups "$3" "$4"; exit $?`,
				"sh", strconv.Itoa(fewPids), strconv.Itoa(u.UID), program, string(text))
			cmd.Env, cmd.Dir = u.Env, "/"
			var out, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(10*time.Minute, func() { cmd.Process.Kill() })
			defer late.Stop()
			err = cmd.Wait()
			var got spoils
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s %s", err, &out, &said)
			}
			t.Logf("%+v %s", got, &said)
			if err != nil || got.Trouble != "" {
				t.Fatalf("the plotter ended with %v: %s", err, got.Trouble)
			}
			if got.Heirs < *heirs {
				t.Errorf("of %d keepers %d were killed in their exec, and %d pids taken", *heirs, got.Kills, got.Heirs)
			}
			if got.Stolen > 0 || got.Holders > 0 || got.Hung > 0 {
				t.Errorf("heirs were given %d descriptors; %d holders outlived their keepers; %d clients hung", got.Stolen, got.Holders, got.Hung)
			}
		})
	}
}

func newerThan(t *testing.T, major, minor int) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var have [2]int
	fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &have[0], &have[1])
	return slices.Compare(have[:], []int{major, minor}) >= 0
}

// plotterMain is this program as the plotter.
func plotterMain() {
	var p plot
	var s spoils
	err := json.Unmarshal([]byte(os.Args[1]), &p)
	for tries := 0; err == nil && s.Heirs < p.Times && tries < 5*p.Times; tries++ {
		err = p.once(&s)
	}
	if err != nil {
		s.Trouble = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(s)
	os.Exit(0)
}

func (p plot) once(s *spoils) error {
	exec.Command("fusermount3", "-uz", p.Mountpoint).Run()
	if err := burn(430, fewPids-70); err != nil { // those below 300 do not come again
		return err
	}
	if said, err := exec.Command(p.Command, "mount").CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w: %s", err, said)
	}
	file := p.Mountpoint + "/x"
	if err := os.WriteFile(file, []byte("a token"), 0o600); err != nil {
		return err
	}
	keeper, err := p.keeper()
	if err != nil {
		return err
	}
	// Near enough to come round before a holder runs out of patience, and as far as
	// an upgrade takes pids itself.
	if err := burn(keeper-100, keeper-80); err != nil {
		return err
	}
	known := abstractSockets()
	conn, err := net.Dial("unix", p.Mountpoint+".sock")
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintln(conn, `{"v":1,"verb":"upgrade"}`)
	// The name of a process changes in its exec.
	for end := time.Now().Add(20 * time.Second); nameOf(keeper) == theKeeper; {
		if time.Now().After(end) {
			return nil // it was refused
		}
	}
	if unix.Kill(keeper, unix.SIGKILL) != nil {
		return nil
	}
	s.Kills++
	if p.StopHolder {
		for _, pid := range called(theHolder) {
			unix.Kill(pid, unix.SIGSTOP)
		}
	}
	for unix.Kill(keeper, 0) == nil { // until it is collected
	}
	if err := burn(keeper-12, keeper-1); err != nil {
		return err
	}
	for range 20 {
		last, stolen, err := p.startHeir(keeper, known)
		if err != nil {
			return err
		}
		if last == keeper {
			s.Heirs++
			s.Stolen += stolen
			break
		}
	}
	answered := make(chan bool, 1)
	go func() { os.ReadFile(file); answered <- true }()
	select {
	case <-answered:
	case <-time.After(5 * time.Second):
		s.Hung++
	}
	for end := time.Now().Add(10 * time.Second); len(called(theHolder)) > 0 && time.Now().Before(end); {
	}
	for _, pid := range called(theHolder) {
		s.Holders++
		unix.Kill(pid, unix.SIGKILL)
	}
	return nil
}

func (p plot) keeper() (int, error) {
	for _, pid := range called(theKeeper) {
		for _, c := range children(pid) {
			if nameOf(c) == theWorker {
				return pid, nil
			}
		}
	}
	return 0, fmt.Errorf("there is no keeper")
}

func called(name string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil && nameOf(pid) == name && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// burn starts processes until one has a pid in a range.
func burn(from, to int) error {
	for range 10_000 {
		c := exec.Command("/bin/true")
		if err := c.Run(); err != nil {
			return err
		}
		pid := c.Process.Pid
		if pid >= from && pid <= to {
			return nil
		}
		more := 50 // not past the range, where they begin anew before it
		if pid < from {
			more = from - pid
		}
		if err := exec.Command("/bin/sh", "-c", `n=$0; while [ $n -gt 0 ]; do (exit); n=$((n-1)); done`, strconv.Itoa(more)).Run(); err != nil {
			return err
		}
	}
	return fmt.Errorf("pids do not come round")
}

// startHeir starts a process that takes what there is if it has the pid. A shell
// uses up one pid only.
func (p plot) startHeir(pid int, known []string) (last, stolen int, err error) {
	c := exec.Command("/bin/sh", append([]string{"-c", `[ $$ -eq "$1" ] || exit 0; exec "$0" "$@"`, p.Heir, strconv.Itoa(pid)}, known...)...)
	out, err := c.Output()
	if err == nil && c.Process.Pid == pid {
		stolen, err = strconv.Atoi(strings.TrimSpace(string(out)))
	}
	return c.Process.Pid, stolen, err
}

// heirMain is this program as such a process.
func heirMain() {
	stolen := 0
	if pid, _ := strconv.Atoi(os.Args[1]); pid == os.Getpid() {
		for _, name := range abstractSockets() {
			if !slices.Contains(os.Args[2:], name) {
				stolen += takeFrom(name)
			}
		}
	}
	fmt.Println(stolen)
	os.Exit(0)
}

// takeFrom says how many descriptors a listener gives.
func takeFrom(name string) int {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return 0
	}
	defer conn.Close()
	for _, pid := range called(theHolder) {
		unix.Kill(pid, unix.SIGCONT)
	}
	conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	oob := make([]byte, unix.CmsgSpace(4*32))
	_, oobn, _, _, err := conn.ReadMsgUnix(make([]byte, 1<<16), oob)
	if err != nil {
		return 0
	}
	messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
	n := 0
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.Close(fd)
		}
		n += len(fds)
	}
	return n
}
