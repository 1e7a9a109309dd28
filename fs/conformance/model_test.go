package conformance

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	modelOps  = flag.Int("model.ops", 100_000, "operations of the model test")
	modelSeed = flag.Uint64("model.seed", 0, "seed of the model test, 0 for a new one")
	modelMore = flag.Bool("model.more", false, "go on after a difference, with the next episode")
)

// An episode is a sequence of operations on a fresh directory: short enough to
// be shrunk when it fails.
const episodeOps = 1000

var digits = regexp.MustCompile(`[0-9]+|[0-9a-f]{6,8}`)

// difference is where the two sides part.
type difference struct {
	step         int // of the operation before, or whose result it is
	what         string
	tested, want string
}

func (d *difference) String() string {
	return fmt.Sprintf("%s\n    tested: %s\n    tmpfs:  %s", d.what, d.tested, d.want)
}

// arena is where episodes run.
type arena struct {
	dir, ref string
	without  omissions
	n        int
	mutation string
	enough   int // do not shrink below this
	sweepMax int // sequences up to this length are compared completely after each step

	whole bool                                                             // the tested side makes drafts of saves
	drive func(ops []op, log func(i int, tested, want string)) *difference // run, or another
}

// run executes ops on two fresh directories and returns the first difference.
// log, if any, is told every result.
func (a *arena) run(ops []op, log func(i int, tested, want string)) *difference {
	a.n++
	var sides [2]*side
	for i, dir := range []string{a.dir, a.ref} {
		s, err := newSide(filepath.Join(dir, fmt.Sprintf("episode-%06d", a.n)))
		if err != nil {
			return &difference{what: "setting up: " + err.Error()}
		}
		defer func() {
			s.close()
			if err := removeAll(s.top); err != nil {
				fmt.Fprintln(os.Stderr, "cleaning up:", err)
			}
		}()
		sides[i] = s
	}
	sides[0].mutation, sides[0].whole = a.mutation, a.whole
	defer unix.Umask(unix.Umask(0o022))
	every := 125
	if len(ops) <= a.sweepMax {
		every = 1
	}
	for i, o := range ops {
		want := sides[1].do(o)
		tested := sides[0].do(o)
		if log != nil {
			log(i, tested, want)
		}
		if tested != want {
			return &difference{step: i, what: "result of " + o.String(), tested: tested, want: want}
		}
		if i%every == every-1 || i == len(ops)-1 {
			if d := compareSweeps(sides[0].sweep(), sides[1].sweep()); d != nil {
				d.step = i
				return d
			}
		}
	}
	return nil
}

func compareSweeps(tested, want []string) *difference {
	for i := range max(len(tested), len(want)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(tested) {
			a = tested[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			return &difference{what: "the state afterwards", tested: a, want: b}
		}
	}
	return nil
}

// shrink looks for the shortest sequence that still differs, by leaving out
// ever smaller pieces.
func (a *arena) shrink(ops []op, d *difference, limit time.Duration) ([]op, *difference) {
	end := time.Now().Add(limit)
	ops = ops[:d.step+1]
	if again := a.drive(ops, nil); again == nil {
		return ops, nil
	} else {
		d = again
		ops = ops[:d.step+1]
	}
	for piece := (len(ops) + 1) / 2; piece > 0; {
		smaller := false
		for from := len(ops) - piece; from > -piece && len(ops) > a.enough && time.Now().Before(end); from -= piece {
			lo, hi := max(from, 0), min(from+piece, len(ops))
			if hi <= lo || hi-lo == len(ops) {
				continue
			}
			shorter := append(append([]op{}, ops[:lo]...), ops[hi:]...)
			if found := a.drive(shorter, nil); found != nil {
				ops, d, smaller = shorter[:found.step+1], found, true
			}
		}
		if piece > 1 {
			piece = (piece + 1) / 2
			if piece == 2 && len(ops) <= 2 {
				piece = 1
			}
		} else if !smaller {
			break
		}
	}
	for i := range ops { // probes that do not matter
		if ops[i].Probe != 0 {
			plain := append([]op{}, ops...)
			plain[i].Probe = 0
			if found := a.drive(plain, nil); found != nil {
				ops, d = plain, found
			}
		}
	}
	return ops, d
}

// explain runs a shrunken sequence once more and writes it down.
func (a *arena) explain(ops []op) string {
	var b strings.Builder
	d := a.drive(ops, func(i int, tested, want string) {
		fmt.Fprintf(&b, "  %2d. %s = %.200s\n", i+1, ops[i], tested)
		if tested != want {
			fmt.Fprintf(&b, "      on tmpfs: %.200s\n", want)
		}
	})
	if d == nil {
		return b.String() + "  (this time without a difference)"
	}
	if strings.HasPrefix(d.what, "result of") {
		return b.String()
	}
	return b.String() + "  " + d.String()
}

func newArena(t testing.TB, dir, ref string) *arena {
	a := &arena{dir: dir, ref: ref, without: omit(t, dir, ref), sweepMax: 60}
	a.drive = a.run
	return a
}

// model runs episodes until one differs, and explains that.
func (a *arena) model(t *testing.T, seed uint64, total int, set func(*generator)) {
	t.Helper()
	known := map[string]bool{}
	for n := 0; n*episodeOps < total; n++ {
		g := newGenerator(seed + uint64(n))
		g.without = a.without
		if set != nil {
			set(g)
		}
		ops := g.sequence(min(episodeOps, total-n*episodeOps))
		d := a.drive(ops, nil)
		if d == nil {
			continue
		}
		short, small := a.shrink(ops, d, time.Minute)
		head := fmt.Sprintf("tokenfs and tmpfs differ: -model.seed %d (episode %d), step %d: %v\n", seed+uint64(n), n, d.step, d)
		if small == nil {
			t.Errorf("%sit did not happen again with the same operations on fresh directories; the last of them were\n%s", head, list(ops[max(0, d.step-20):d.step+1]))
		} else if kind := digits.ReplaceAllString(short[len(short)-1].Kind+small.tested+small.want, ""); !known[kind] {
			known[kind] = true
			t.Errorf("%sshrunk to\n%s", head, a.explain(short))
		}
		if !*modelMore || len(known) > 40 {
			break
		}
	}
}

// TestModel drives the same random operations on tokenfs and on tmpfs: without
// drafts, and with drafts that end with the operation that has begun them. What
// they are in between tmpfs cannot tell: FuzzDrafts of package fs holds that against a
// model.
func TestModel(t *testing.T) {
	for name, whole := range map[string]bool{"in place": false, "whole saves": true} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, mountOptions{PlainSaves: !whole})
			seed := *modelSeed
			if seed == 0 {
				seed = uint64(time.Now().UnixNano())
			}
			ops := (*modelOps + 1) / 2
			t.Logf("-model.seed %d -model.ops %d", seed, 2*ops)
			empty := free(t, m.Dir)
			a := newArena(t, m.Dir, m.Ref)
			a.whole = whole
			a.model(t, seed, ops, nil)
			if os.Getenv(envDir) == "" {
				poll(t, 10*time.Second, "everything to be free again after all was removed", func() bool { return free(t, m.Dir) == empty })
			}
		})
	}
}

func list(ops []op) string {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintln(&b, "  ", o)
	}
	return b.String()
}

// free is how many blocks and inodes are left.
func free(t testing.TB, dir string) [2]uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return [2]uint64{st.Bfree, st.Ffree}
}

// TestModelCatches plants bugs into one of two tmpfs trees: the model must find
// each, and show it in a few lines.
func TestModelCatches(t *testing.T) {
	skipIfNotHere(t)
	base := tempDir(t)
	ref, other := filepath.Join(base, "tmpfs-0"), filepath.Join(base, "tmpfs-1")
	mountReference(t, ref, mountOptions{})
	mountReference(t, other, mountOptions{})
	for name := range mutations {
		t.Run(name, func(t *testing.T) {
			a := newArena(t, other, ref)
			a.mutation, a.enough = name, 6
			for seed := uint64(1); ; seed++ {
				g := newGenerator(seed)
				g.without = a.without
				ops := g.sequence(episodeOps)
				d := a.run(ops, nil)
				if d == nil && seed < 20 {
					continue
				}
				if d == nil {
					t.Fatalf("not found in %d operations", 20*episodeOps)
				}
				short, small := a.shrink(ops, d, 5*time.Minute) // an emulated CPU needs more than one
				if small == nil || a.drive(short, nil) == nil {
					// A planted bug shows each time; a busy machine's timing does not.
					t.Logf("seed %d: seen once, and not again: %v", seed, d)
					if seed < 20 {
						continue
					}
					t.Fatal("nothing found that can be seen twice")
				}
				if len(short) > 8 {
					t.Errorf("shrunk only to %d operations", len(short))
				}
				t.Logf("seed %d:\n%s", seed, a.explain(short))
				return
			}
		})
	}
}
