package attack

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tokenfs/integration/test/installed"
	"tokenfs/integration/test/mounted"
	"tokenfs/lifecycle"
)

// What somebody would do who had taken over the worker, by the name of the
// system call that the journal must then tell.
var deeds = []string{"socket", "memfd_create", "dup", "clone", "execve", "mmap", "ioctl", "fcntl", "prctl", "ptrace", "kill", "tgkill",
	"unshare", "prlimit64", "pidfd_getfd", "process_vm_readv", "io_uring_setup", "ftruncate"}

// In a program with C in it some calls are refused, or taken from one that is
// allowed, without an end to the process.
var pureDeeds = []string{"openat", "openat-to-write", "mprotect"}

func try(t *testing.T, m *mounted.Mount, deed string) (worked bool) {
	t.Helper()
	answer := m.Control(t, `{"v":1,"verb":"try","paths":["`+base64.StdEncoding.EncodeToString([]byte(deed))+`"]}`)
	var a struct {
		Files int
		Error string
	}
	if err := json.Unmarshal(answer, &a); err != nil || (a.Files == 0) == (a.Error == "") || strings.HasPrefix(a.Error, "request:") {
		t.Fatalf("%s: %v: %s", deed, err, answer)
	}
	return a.Files > 0
}

func statusOf(t *testing.T, m *mounted.Mount) (s lifecycle.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(m.Run(t, "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A worker that does what it has no need of is ended for it, and the journal
// says what it was; clients notice nothing.
func TestFromInside(t *testing.T) {
	command := mounted.Build(t, "tokenfs_reveal")
	all := deeds
	if mounted.Race {
		t.Logf("NOT RUN in a race detector's build: %q", pureDeeds)
	} else {
		all = append(append([]string{}, deeds...), pureDeeds...)
	}
	// Five such workers in a row would be the end of the filesystem.
	for few := range slices.Chunk(all, 4) {
		t.Run(strings.Join(few, " "), func(t *testing.T) { isEndedFor(t, command, few) })
	}
}

func isEndedFor(t *testing.T, command string, deeds []string) {
	m := mounted.New(t, command)
	path := filepath.Join(m.Dir, "x")
	if err := os.WriteFile(path, []byte("still here"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, deed := range deeds {
		if try(t, m, deed) {
			t.Errorf("%s: it can", deed)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "still here" {
			t.Fatalf("after %s: %q, %v", deed, b, err)
		}
		s := statusOf(t, m)
		call, _, _ := strings.Cut(deed, "-")
		said := ""
		for _, message := range s.Messages {
			if strings.Contains(message.Text, "no need of") {
				said = message.Text
			}
		}
		if !strings.Contains(said, " "+call+",") {
			t.Errorf("after %s the journal says %q", deed, said)
		}
		if s.Worker.Restarts != n+1 {
			t.Errorf("%d restarts after %d deeds", s.Worker.Restarts, n+1)
		}
	}
}

// Without the sandbox all of it works.
func TestFromInsideUnprotected(t *testing.T) {
	m := mounted.New(t, mounted.Build(t, "tokenfs_reveal", "tokenfs_unprotected"))
	for _, deed := range append(append([]string{}, deeds...), pureDeeds...) {
		if !try(t, m, deed) {
			t.Errorf("%s: it cannot, and so nothing is shown by that it cannot in the sandbox", deed)
		}
	}
	for _, process := range statusOf(t, m).Processes {
		for _, p := range process.Protections {
			if p.Active && p.Name != "core_dumps_off" && p.Name != "file_limit" { // those the caller may have set
				t.Errorf("status says of the %s: %+v", process.Role, p)
			}
		}
	}
}

// Status tells what is on, for each process, of an ordinary user's command.
func TestStatusTellsWhatIsOn(t *testing.T) {
	u := installed.New(t, command(t), installed.Packaged)
	u.Must("mount")
	want := map[string]map[string]bool{
		"keeper": {"ptrace_off": true, "core_dumps_off": true, "file_limit": true, "no_new_privs": false, "landlock": false, "seccomp": false},
		"worker": {"ptrace_off": true, "core_dumps_off": true, "file_limit": true, "no_new_privs": true, "seccomp": true, "capabilities": true},
	}
	processes := u.Status().Processes
	if len(processes) != len(want) {
		t.Fatalf("processes: %+v", processes)
	}
	for _, process := range processes {
		told := map[string]bool{}
		for _, p := range process.Protections {
			told[p.Name] = p.Active
		}
		for name, active := range want[process.Role] {
			if got, ok := told[name]; !ok || got != active {
				t.Errorf("%s of the %s: %v (told: %v)", name, process.Role, got, ok)
			}
		}
	}
	u.Must("unmount")
	u.NothingLeft()
}

// What the races of this package attack is within reach where it is not
// protected. That tracing works, the toy shows: here it would stop the keeper.
func TestUnprotectedProcessesAreReached(t *testing.T) {
	u := installed.New(t, mounted.Build(t, "tokenfs_unprotected"), installed.Private)
	if why := hidden(); why != "" {
		t.Skipf("NOT RUN: %s", why)
	}
	u.Must("mount")
	o := order{Below: u.Status().Mount.PID, Kill: u.Status().Mount.PID, Kills: 3}
	r := begin(t, u, o).end(o)
	// On a slow machine few tries fit between a worker's start and its end.
	for missed := true; missed && o.Kills < 48; {
		missed = slices.ContainsFunc(ways, func(w way) bool { return r.Reached[w.name] == 0 })
		if missed {
			o.Kills *= 4
			r = begin(t, u, o).end(o)
		}
	}
	r.print(t)
	for _, w := range ways {
		if r.Reached[w.name] == 0 {
			t.Errorf("%s got at nothing", w.name)
		}
	}
}
