package conformance

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var userOps = flag.Int("users.ops", 5_000, "operations of the model test with several users")

// people are who acts in the tests with several users.
var people = []struct {
	name     string
	uid, gid uint32
	groups   []uint32
}{
	{"root", 0, 0, nil},
	{"ann", 1000, 1000, []uint32{2000}}, // shares group 2000 with bob
	{"bob", 1001, 1001, []uint32{2000}},
	{"eve", 1002, 1002, nil},
}

// An actor is a process with one person's credentials that carries out
// operations of the model on one side.
type actor struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *bufio.Reader
}

func init() {
	roles["actor"] = func(args []byte) error {
		var top string
		if err := json.Unmarshal(args, &top); err != nil {
			return err
		}
		unix.Umask(0o022)
		s := openSide(top)
		s.shared = true
		in := json.NewDecoder(os.Stdin)
		for {
			var o op
			if err := in.Decode(&o); err == io.EOF {
				s.close()
				return nil
			} else if err != nil {
				return err
			}
			if o.Kind == "reset" {
				s.close()
				s = openSide(o.P)
				s.shared = true
				unix.Umask(0o022)
				fmt.Println(`"ok"`)
				continue
			}
			js, err := json.Marshal(s.do(o))
			if err != nil {
				return err
			}
			fmt.Printf("%s\n", js)
		}
	}
}

func newActor(t testing.TB, top string, who int) *actor {
	t.Helper()
	cmd := personCommand(t, who, "actor", top)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &actor{cmd, json.NewEncoder(in), bufio.NewReader(out)}
}

func (a *actor) do(o op) string {
	if err := a.in.Encode(o); err != nil {
		return "actor: " + err.Error()
	}
	line, err := a.out.ReadBytes('\n')
	if err != nil {
		return "actor: " + err.Error()
	}
	var result string
	if err := json.Unmarshal(line, &result); err != nil {
		return "actor: " + err.Error()
	}
	return result
}

// usersArena is an arena whose operations are carried out by several people.
type usersArena struct {
	arena
	actors [2][]*actor
}

func newUsersArena(t testing.TB) *usersArena {
	m := mount(t, mountOptions{AllowOther: true, PlainSaves: true}) // what drafts take from set-id bits, fs knows
	must(t, os.Chmod(m.Dir, 0o755))
	must(t, os.Chmod(m.Ref, 0o755))
	u := &usersArena{arena: *newArena(t, m.Dir, m.Ref)}
	for i, dir := range []string{m.Dir, m.Ref} {
		for who := range people {
			u.actors[i] = append(u.actors[i], newActor(t, dir, who))
		}
	}
	u.drive = u.episode
	return u
}

// episode is arena.run with the people doing the work; root looks after them.
func (u *usersArena) episode(ops []op, log func(i int, tested, want string)) *difference {
	u.n++
	var sides [2]*side
	for i, dir := range []string{u.dir, u.ref} {
		top := filepath.Join(dir, fmt.Sprintf("episode-%06d", u.n))
		s, err := newSide(top)
		if err != nil {
			return &difference{what: "setting up: " + err.Error()}
		}
		for d, mode := range map[string]uint32{"": 0o1777, "d0": 0o777, "d1": 0o2775, "d0/d2": 0o1777, "big": 0o770} {
			unix.Chmod(s.path(d), mode)
			unix.Lchown(s.path(d), -1, 2000)
		}
		sides[i] = s
		for _, a := range u.actors[i] {
			a.do(op{Kind: "reset", P: top})
		}
		defer func() {
			for _, a := range u.actors[i] {
				a.do(op{Kind: "reset", P: dir})
			}
			s.close()
			if err := os.RemoveAll(top); err != nil {
				fmt.Fprintln(os.Stderr, "cleaning up:", err)
			}
		}()
	}
	every := 125
	if len(ops) <= u.sweepMax {
		every = 1
	}
	for i, o := range ops {
		want := u.actors[1][o.Who].do(o)
		tested := u.actors[0][o.Who].do(o)
		if log != nil {
			log(i, tested, want)
		}
		if tested != want {
			return &difference{step: i, what: "result of " + o.String(), tested: tested, want: want}
		}
		if i%every == every-1 || i == len(ops)-1 {
			// Root has mapped nothing: what the actors' mappings taint is not compared.
			a, b := sides[0].sweep(), sides[1].sweep()
			for k := range a {
				a[k] = plain(a[k])
			}
			for k := range b {
				b[k] = plain(b[k])
			}
			if d := compareSweeps(a, b); d != nil {
				d.step = i
				return d
			}
		}
	}
	return nil
}

// plain keeps of a line what does not depend on mappings: name, mode, owner.
func plain(line string) string {
	line, _, _ = strings.Cut(line, " rdev ")
	return line
}

// TestUsers is the model with several people on a mount with allow_other:
// permissions, sticky and setgid directories, set-user-id bits.
func TestUsers(t *testing.T) {
	u := newUsersArena(t)
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-model.seed %d -users.ops %d", seed, *userOps)
	u.model(t, seed, *userOps, func(g *generator) { g.users = len(people) })
}

// TestUsersMatrix asks for every access of every person to objects of every
// mode, owner and group.
func TestUsersMatrix(t *testing.T) {
	u := newUsersArena(t)
	modes := []uint32{0, 0o400, 0o040, 0o004, 0o060, 0o006, 0o755, 0o1777, 0o2770, 0o4755, 0o6777, 0o2707, 0o011, 0o300}
	owners := [][2]int{{0, 0}, {1000, 1000}, {1000, 2000}, {1001, 1001}, {0, 2000}}
	u.reset()
	wrong := 0
	for i, owner := range owners {
		for _, mode := range modes {
			for who := range people {
				for k, o := range attempts() {
					at := fmt.Sprintf("%d-%04o-%d-%d/", i, mode, who, k)
					o.P, o.Who = at+o.P, who
					if o.Q != "" {
						o.Q = at + o.Q
					}
					if deviates(o, who, owner, mode) {
						continue
					}
					u.prepare(t, at, owner, mode)
					got, want := u.both(o)
					got, want = got+u.objects(0, at), want+u.objects(1, at)
					if got != want {
						if wrong++; wrong <= maxShown {
							t.Errorf("dir and f0 are %04o of %d:%d, dir/b is bob's; for %s\n    %v = %s\n    on tmpfs %s",
								mode, owner[0], owner[1], people[who].name, o, got, want)
						}
					}
				}
			}
		}
	}
	if wrong > maxShown {
		t.Errorf("and %d more", wrong-maxShown)
	}
	t.Logf("%d combinations", len(owners)*len(modes)*len(people)*len(attempts()))
}

// deviates says whether the table of deviations has a line for an attempt on a
// file: the kernel does not ask who owns it in chown(-1, -1), and does not tell
// of supplementary groups, which on tmpfs keep set-group-id without group
// execute.
func deviates(o op, who int, owner [2]int, mode uint32) bool {
	p := people[who]
	if o.Kind == "chown" && o.UID == -1 && o.GID == -1 && who != 0 && int(p.uid) != owner[0] {
		return true
	}
	return mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID && who != 0 &&
		int(p.gid) != owner[1] && slices.Contains(p.groups, uint32(owner[1]))
}

// prepare makes what attempts are made on, on both sides.
func (u *usersArena) prepare(t testing.TB, at string, owner [2]int, mode uint32) {
	t.Helper()
	for _, dir := range []string{u.dir, u.ref} {
		at := filepath.Join(dir, "matrix", below, at)
		must(t, os.MkdirAll(at+"/dir", 0o755))
		must(t, os.Chmod(at, 0o777))
		for _, name := range []string{"dir/f", "dir/b", "f0"} {
			must(t, unix.Mknod(filepath.Join(at, name), unix.S_IFREG|0o644, 0))
		}
		must(t, unix.Chown(at+"/dir/b", 1001, 1001))
		for _, name := range []string{"f0", "dir"} {
			must(t, unix.Chown(filepath.Join(at, name), owner[0], owner[1]))
			must(t, unix.Chmod(filepath.Join(at, name), mode))
		}
	}
}

// objects tells what became of them.
func (u *usersArena) objects(i int, at string) (out string) {
	s := openSide(filepath.Join([]string{u.dir, u.ref}[i], "matrix"))
	for _, name := range []string{"f0", "l", "dir", "dir/f", "dir/b", "dir/c", "dir/new", "dir/sub"} {
		var st unix.Stat_t
		if unix.Lstat(s.path(at+name), &st) == nil {
			out += fmt.Sprintf("\n      %s: %s", name, s.describeStat(&st))
		}
	}
	return out
}

// reset gives the people fresh trees that root prepares.
func (u *usersArena) reset() {
	for i, dir := range []string{u.dir, u.ref} {
		u.n++
		top := filepath.Join(dir, "matrix")
		os.MkdirAll(filepath.Join(top, below), 0o777)
		for _, a := range u.actors[i] {
			a.do(op{Kind: "reset", P: top})
		}
	}
}

// both runs an operation on both sides.
func (u *usersArena) both(o op) (tested, want string) {
	o = u.without.of(o)
	return u.actors[0][o.Who].do(o), u.actors[1][o.Who].do(o)
}

// attempts are what each person tries.
func attempts() []op {
	return []op{
		{Kind: "open", P: "f0", Flags: unix.O_RDONLY},
		{Kind: "open", P: "f0", Flags: unix.O_WRONLY | unix.O_TRUNC},
		{Kind: "open", P: "f0", Flags: unix.O_RDONLY | unix.O_NOATIME},
		{Kind: "open", P: "dir/new", Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o6777},
		{Kind: "tmpfile", P: "dir", Flags: unix.O_RDWR, Mode: 0o600},
		{Kind: "mkdir", P: "dir/sub", Mode: 0o755},
		{Kind: "unlink", P: "dir/f"},
		{Kind: "unlink", P: "dir/b"},
		{Kind: "rename", P: "dir/b", Q: "dir/c"},
		{Kind: "rename", P: "f0", Q: "dir/f"},
		{Kind: "link", P: "f0", Q: "l"},
		{Kind: "access", P: "f0", Mode: unix.R_OK},
		{Kind: "access", P: "f0", Mode: unix.W_OK},
		{Kind: "access", P: "f0", Mode: unix.X_OK},
		{Kind: "access", P: "dir/f", Mode: unix.F_OK},
		{Kind: "chmod", P: "f0", Mode: 0o2755},
		{Kind: "chmod", P: "dir", Mode: 0o2755},
		{Kind: "chown", P: "f0", UID: 1000, GID: -1},
		{Kind: "chown", P: "f0", UID: -1, GID: 2000},
		{Kind: "chown", P: "f0", UID: -1, GID: 1002},
		{Kind: "chown", P: "f0", UID: -1, GID: -1},
		{Kind: "truncate", P: "f0", Off: 10},
		{Kind: "utimens", P: "f0", Off: 1, Seed: 5},
		{Kind: "utimens", P: "f0", Off: 1, Seed: 5, Len: 5}, // both NOW
		{Kind: "utimens", P: "f0", Off: 1, Seed: 5, Len: 9}, // NOW and OMIT
		{Kind: "setxattr", P: "f0", Name: "user.a", Len: 3},
		{Kind: "setxattr", P: "f0", Name: "trusted.a", Len: 3},
		{Kind: "setxattr", P: "dir", Name: "user.a", Len: 3},
		{Kind: "getxattr", P: "f0", Name: "user.a", Len: 30},
		{Kind: "listxattr", P: "f0", Len: 100},
	}
}

// TestUsersSetID sees what writing, truncating and so on take from the bits,
// and from whom.
func TestUsersSetID(t *testing.T) {
	u := newUsersArena(t)
	u.reset()
	n := 0
	for _, mode := range []uint32{0o4777, 0o2777, 0o6777, 0o2767, 0o6766} {
		for who := range people {
			for _, o := range []op{
				{Kind: "write", Len: 10},
				{Kind: "pwrite", Len: 10, Off: 5000},
				{Kind: "ftruncate", Off: 5},
				{Kind: "fallocate", Len: 5000},
				{Kind: "fallocate", Len: 5000, Flags: unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE},
				{Kind: "truncate", P: "f0", Off: 5},
				{Kind: "truncate", P: "f0", Off: 100}, // the size that it has
				{Kind: "open", P: "f0", Flags: unix.O_WRONLY | unix.O_TRUNC, S: 3},
				{Kind: "chown", P: "f0", UID: -1, GID: -1},
				{Kind: "chown", P: "f0", UID: -1, GID: 2000},
				{Kind: "chmod", P: "f0", Mode: mode},
				{Kind: "copy_file_range", T: 1, Len: 50},
				{Kind: "sendfile", T: 1, Len: 50},
				{Kind: "setxattr", P: "f0", Name: "user.a", Len: 10},
				{Kind: "link", P: "f0", Q: "f9"},
			} {
				if deviates(o, who, [2]int{1000, 2000}, mode) {
					continue
				}
				n++
				f0, f1 := fmt.Sprintf("f0-%d", n), fmt.Sprintf("f1-%d", n)
				o.Who = who
				if o.P != "" {
					o.P = f0
				}
				ops := []op{
					{Kind: "open", P: f0, S: 0, Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o666},
					{Kind: "write", Len: 100},
					{Kind: "chown", P: f0, UID: 1000, GID: 2000},
					{Kind: "open", P: f1, S: 1, Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o666},
					{Kind: "write", S: 1, Len: 100},
					{Kind: "chmod", P: f1, Mode: 0o666},
					{Kind: "chmod", P: f0, Mode: mode},
					{Kind: "open", P: f0, S: 0, Flags: unix.O_RDWR, Who: who},
					{Kind: "open", P: f1, S: 1, Flags: unix.O_RDWR, Who: who},
					o,
					{Kind: "stat", P: f0},
				}
				for _, step := range ops {
					if got, want := u.both(step); got != want {
						t.Errorf("%04o of ann:2000, %s does %v:\n    %v = %s\n    on tmpfs %s", mode, people[who].name, o, step, got, want)
						break
					}
				}
			}
		}
	}
}

// TestOthersKeptOut: without allow_other nobody but the owner gets in, not
// even root.
func TestOthersKeptOut(t *testing.T) {
	for _, owner := range []int{0, 1} {
		t.Run("mount of "+people[owner].name, func(t *testing.T) {
			m := mount(t, mountOptions{UID: people[owner].uid})
			if m.daemon == nil {
				t.Skipf("%s is set: whose mount that is, is not known", envDir)
			}
			for who, p := range people {
				out, err := personCommand(t, who, "visitor", m.Dir).CombinedOutput()
				want := "EACCES EACCES EACCES, 0 blocks\n" // the kernel's answer to a stranger's statfs
				if who == owner {
					want = "ok ok ok, 16384 blocks\n"
				}
				if err != nil || string(out) != want {
					t.Errorf("%s gets %q (%v) for stat, open, mkdir and statfs, want %q", p.name, out, err, want)
				}
			}
		})
	}
}

func init() {
	roles["visitor"] = func(args []byte) error {
		var dir string
		if err := json.Unmarshal(args, &dir); err != nil {
			return err
		}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return call("statfs", err)
		}
		_, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		fmt.Printf("%s %s %s, %d blocks\n", errName(unix.Stat(dir, new(unix.Stat_t))), errName(err),
			errName(unix.Mkdir(filepath.Join(dir, "visited"), 0o700)), st.Blocks)
		return nil
	}
}

func personCommand(t testing.TB, who int, role string, args any) *exec.Cmd {
	cmd := roleCommand(t, role, args)
	cmd.SysProcAttr = asUser(people[who].uid, people[who].gid, people[who].groups...)
	return cmd
}

// maxShown differences are enough to read.
const maxShown = 20
