package torture

import (
	"cmp"
	"fmt"
	"slices"
)

// Op is one operation on a shared object as its process saw it. It took effect
// at one moment between its start and its end, if the object is as promised.
type Op struct {
	Object string // what it was done to; objects do not depend on each other
	Kind   string
	A, B   int64 // arguments
	Result int64
	Client int
	Start  int64 // CLOCK_MONOTONIC, nanoseconds
	End    int64
}

func (o Op) String() string {
	return fmt.Sprintf("client %d: %s(%d, %d) = %d from %d to %d", o.Client, o.Kind, o.A, o.B, o.Result, o.Start, o.End)
}

// A Model says what an operation does to a state: which one follows, and
// whether the operation could have had its result.
type Model func(state State, op *Op) (State, bool)

// State of an object; which fields mean what is its model's.
type State [8]int64

// configuration is a way to explain what has ended so far: the state, and which
// of the operations still running have had their effect already.
type configuration struct {
	state State
	done  uint64 // bits of running
}

// Linearizable looks for an order of the operations on one object, each at a
// moment between its start and its end, that the model allows: so each took
// effect exactly once, and whatever ended before another began came before it.
// It returns the first operation that none explains, or nil.
//
// This is the search of Wing and Gong in the form of Lowe (Testing for
// linearizability, 2017): in the order of time, keeping every configuration
// that is possible, of which there are few, because few operations overlap.
func Linearizable(history []Op, start State, model Model) *Op {
	type event struct {
		at  int64
		end bool
		op  *Op
	}
	var events []event
	for i := range history {
		op := &history[i]
		events = append(events, event{op.Start, false, op}, event{op.End, true, op})
	}
	slices.SortStableFunc(events, func(a, b event) int {
		if c := cmp.Compare(a.at, b.at); c != 0 {
			return c
		}
		// What ends when another begins may have been at the same time.
		if a.end == b.end {
			return 0
		} else if b.end {
			return -1
		}
		return 1
	})
	var running [64]*Op
	possible := map[configuration]bool{{state: start}: true}
	for _, e := range events {
		if !e.end {
			i := slices.Index(running[:], nil)
			if i < 0 {
				panic("internal error: more than 64 operations at once")
			}
			running[i] = e.op
			continue
		}
		i := slices.Index(running[:], e.op)
		next := map[configuration]bool{}
		for c := range possible {
			explain(c, i, &running, model, next, map[configuration]bool{})
		}
		if len(next) == 0 {
			return e.op
		}
		running[i] = nil
		possible = next
	}
	return nil
}

// explain adds to next what c can become when running operation i has ended.
func explain(c configuration, i int, running *[64]*Op, model Model, next, seen map[configuration]bool) {
	if seen[c] {
		return
	}
	seen[c] = true
	if c.done&(1<<i) != 0 {
		c.done &^= 1 << i
		next[c] = true
		return
	}
	for j, op := range running {
		if op == nil || c.done&(1<<j) != 0 {
			continue
		}
		if state, ok := model(c.state, op); ok {
			explain(configuration{state, c.done | 1<<j}, i, running, model, next, seen)
		}
	}
}

// Results of operations on names; all others are what they returned.
const (
	ResultOK     = 0
	ResultExists = -17 // EEXIST
	ResultAbsent = -2  // ENOENT
	ResultFile   = -22 // EINVAL: a file where a symlink was to be read
)

// Register holds the last value written.
func Register(s State, op *Op) (State, bool) {
	switch op.Kind {
	case "write":
		s[0] = op.A
		return s, true
	case "read":
		return s, op.Result == s[0]
	}
	return s, false
}

// Counter gives out each number once, in order.
func Counter(s State, op *Op) (State, bool) {
	n := s[0]
	s[0]++
	return s, op.Kind == "next" && op.Result == n
}

// Names is a directory of a few names, each absent (0), a file (-1), or a
// symlink with a number for its target.
func Names(s State, op *Op) (State, bool) {
	at, to := &s[op.A], op.B
	fail := func(result int64) (State, bool) { return s, op.Result == result }
	switch op.Kind {
	case "create", "symlink":
		if *at != 0 {
			return fail(ResultExists)
		}
		*at = to
	case "unlink":
		if *at == 0 {
			return fail(ResultAbsent)
		}
		*at = 0
	case "readlink":
		switch *at {
		case 0:
			return fail(ResultAbsent)
		case -1:
			return fail(ResultFile)
		}
		return s, op.Result == *at
	case "rename", "move", "exchange":
		if *at == 0 {
			return fail(ResultAbsent)
		}
		if op.Kind == "move" && s[to] != 0 { // RENAME_NOREPLACE
			return fail(ResultExists)
		}
		if op.Kind == "exchange" && s[to] == 0 {
			return fail(ResultAbsent)
		}
		if op.Result != ResultOK {
			return s, false
		}
		if op.Kind == "exchange" {
			*at, s[to] = s[to], *at
		} else {
			*at, s[to] = 0, *at
		}
		return s, true
	default:
		return s, false
	}
	return s, op.Result == ResultOK
}
