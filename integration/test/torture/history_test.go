package torture

import "testing"

func TestLinearizable(t *testing.T) {
	op := func(kind string, a, b, result, start, end int64) Op {
		return Op{Kind: kind, A: a, B: b, Result: result, Start: start, End: end}
	}
	for _, c := range []struct {
		name    string
		model   Model
		history []Op
		ok      bool
	}{
		{"a read of what was written last", Register, []Op{op("write", 1, 0, 0, 0, 1), op("write", 2, 0, 0, 2, 3), op("read", 0, 0, 2, 4, 5)}, true},
		{"a read of what was overwritten", Register, []Op{op("write", 1, 0, 0, 0, 1), op("write", 2, 0, 0, 2, 3), op("read", 0, 0, 1, 4, 5)}, false},
		{"a read during a write", Register, []Op{op("write", 1, 0, 0, 0, 9), op("read", 0, 0, 0, 1, 2), op("read", 0, 0, 1, 3, 4)}, true},
		{"new, then old", Register, []Op{op("write", 1, 0, 0, 0, 9), op("read", 0, 0, 1, 1, 2), op("read", 0, 0, 0, 3, 4)}, false},
		{"a write that took effect twice", Register, []Op{op("write", 1, 0, 0, 0, 1), op("write", 2, 0, 0, 2, 3), op("read", 0, 0, 2, 4, 5), op("read", 0, 0, 1, 6, 7)}, false},
		{"numbers in order", Counter, []Op{op("next", 0, 0, 1, 0, 9), op("next", 0, 0, 0, 1, 8)}, true},
		{"a number given out twice", Counter, []Op{op("next", 0, 0, 0, 0, 1), op("next", 0, 0, 0, 2, 3)}, false},
		{"numbers against the order of time", Counter, []Op{op("next", 0, 0, 1, 0, 1), op("next", 0, 0, 0, 2, 3)}, false},
		{"a number left out", Counter, []Op{op("next", 0, 0, 0, 0, 1), op("next", 0, 0, 2, 2, 3)}, false},
		{"a lock that two hold", Names, []Op{op("create", 0, -1, 0, 0, 5), op("create", 0, -1, 0, 1, 4)}, false},
		{"a lock that one holds", Names, []Op{op("create", 0, -1, 0, 0, 5), op("create", 0, -1, ResultExists, 1, 4)}, true},
		{"a lock refused that nobody holds", Names, []Op{op("create", 0, -1, ResultExists, 0, 5), op("create", 0, -1, ResultExists, 1, 4)}, false},
		{"unlinked twice", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("unlink", 0, 0, 0, 2, 9), op("unlink", 0, 0, 0, 3, 8)}, false},
		{"found gone while another unlinks", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("unlink", 0, 0, ResultAbsent, 2, 9), op("unlink", 0, 0, 0, 3, 8)}, true},
		{"gone, and nobody else", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("unlink", 0, 0, ResultAbsent, 2, 9)}, false},
		{"moved", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("move", 0, 1, 0, 2, 3), op("readlink", 1, 0, 7, 4, 5), op("readlink", 0, 0, ResultAbsent, 4, 5)}, true},
		{"moved and still there", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("move", 0, 1, 0, 2, 3), op("readlink", 0, 0, 7, 4, 5)}, false},
		{"exchanged", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("create", 1, -1, 0, 0, 1), op("exchange", 0, 1, 0, 2, 3), op("readlink", 1, 0, 7, 4, 5), op("readlink", 0, 0, ResultFile, 4, 5)}, true},
		{"exchanged twice", Names, []Op{op("symlink", 0, 7, 0, 0, 1), op("create", 1, -1, 0, 0, 1), op("exchange", 0, 1, 0, 2, 3), op("readlink", 0, 0, 7, 4, 5)}, false},
	} {
		wrong := Linearizable(c.history, State{}, c.model)
		if (wrong == nil) != c.ok {
			t.Errorf("%s: %v", c.name, wrong)
		}
	}
}
