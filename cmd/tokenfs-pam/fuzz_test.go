package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Whatever is in a record, what is taken from it makes sense, and is read again as
// it is written.
func FuzzParseRecord(f *testing.F) {
	for _, text := range []string{"", "null", "[]", "{", `{"made":true}`, `{"leaders":null}`,
		`{"made":true,"leaders":[{"pid":1,"start":"1"},{"pid":-1,"start":"1"},{"pid":2,"start":"x"}],"remover":{"pid":3,"start":"4"}}`,
		`{"leaders":[{"pid":1e99}]}`, `{"leaders":{}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := parseRecord(text)
		for _, p := range append(r.Leaders, r.Remover) {
			if p != (process{}) && !p.makesSense() {
				t.Errorf("%+v", p)
			}
			p.alive() // asks the kernel for no other file than a process's
		}
		written, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if again := parseRecord(written); !reflect.DeepEqual(r, again) && len(r.Leaders)+len(again.Leaders) > 0 {
			t.Errorf("%s: %+v, then %+v", written, r, again)
		}
	})
}

// A process chooses its name, and cannot by that seem to have started at another
// time, or to have ended.
func FuzzParseStat(f *testing.F) {
	for _, name := range []string{"sh", "", ") Z 1 (x", "a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 7", "\n", "\xff"} {
		f.Add(name, uint64(12345), true)
	}
	f.Fuzz(func(t *testing.T, name string, start uint64, runs bool) {
		state := "Z"
		if runs {
			state = "S"
		}
		stat := fmt.Sprintf("42 (%s) %s 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 9 10\n", name, state, start)
		got, err := parseStat(stat)
		if runs != (err == nil) || runs && got != fmt.Sprint(start) {
			t.Errorf("%q: %s, %v", stat, got, err)
		}
		parseStat(name) // no such line, and no panic
	})
}

// A line of passwd is taken whole or not at all.
func FuzzParseAccount(f *testing.F) {
	for _, line := range []string{"", ":::::::", "root:x:0:0:root:/root:/bin/bash\n", "a:x:-1:0:::", "a:x:4294967295:0:::", "a:x:1:99999999999999999999:::"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		a, err := parseAccount(line)
		if err != nil {
			return
		}
		if fields := strings.Split(strings.TrimRight(line, "\n"), ":"); len(fields) != 7 || a.name != fields[0] || a.uid < 0 || a.gid < 0 {
			t.Errorf("%q is %+v", line, a)
		}
	})
}
