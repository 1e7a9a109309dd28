package lifecycle

import (
	"bytes"
	"encoding/json"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tokenfs/fs"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/session"
)

func TestParseRequest(t *testing.T) {
	for in, want := range map[string]request{
		`{"v":1,"verb":"status"}`:                         {V: 1, Verb: "status"},
		`{"v":1,"verb":"wipe"}`:                           {V: 1, Verb: "wipe"},
		` {"v":1,"verb":"wipe","paths":["YS9i","AP8="]} `: {},
		`{"v":1,"verb":"wipe","paths":["YS9i","/w=="]}`:   {V: 1, Verb: "wipe", Paths: [][]byte{[]byte("a/b"), {0xff}}},
		`{"v":1,"verb":"wipe","paths":[]}`:                {},
		`{"v":1,"verb":"unmount"}`:                        {V: 1, Verb: "unmount"},
		`{"v":1,"verb":"unmount","paths":["YQ=="]}`:       {},
		`{"v":1,"verb":"skeleton"}`:                       {V: 1, Verb: "skeleton"},
		`{"v":1,"verb":"skeleton","skeleton":[]}`:         {V: 1, Verb: "skeleton"},
		`{"v":1,"verb":"skeleton","skeleton":[{"path":"a/b","mode":448,"outside":"/o","links":["l"]}]}`:                                                                   {V: 1, Verb: "skeleton", Skeleton: []fs.Folder{{Path: "a/b", Mode: 0o700, Outside: "/o", Links: []string{"l"}}}},
		`{"v":1,"verb":"skeleton","skeleton":[{"path":"../b","mode":448}]}`:                                                                                               {},
		`{"v":1,"verb":"skeleton","paths":["YQ=="]}`:                                                                                                                      {},
		`{"v":1,"verb":"wipe","skeleton":[{"path":"a","mode":448}]}`:                                                                                                      {},
		`{"v":1,"verb":"skeleton","skeleton":[{"path":"a","mode":448,"outside":"/` + strings.Repeat("o", 4000) + `","links":["l"]}]}`:                                     {},
		`{"v":1,"verb":"skeleton","skeleton":[` + strings.Repeat(`{"path":"a","mode":448,"outside":"/`+strings.Repeat("o", 1000)+`"},`, 40) + `{"path":"a","mode":448}]}`: {},
		`{"v":1,"verb":"hold","seconds":60}`:                                                                                                                              {V: 1, Verb: "hold", Seconds: 60},
		`{"v":1,"verb":"hold","command":"tmux"}`:                                                                                                                          {V: 1, Verb: "hold", Command: "tmux"},
		`{"v":1,"verb":"hold"}`:                                                                                                                                           {},
		`{"v":1,"verb":"hold","seconds":60,"command":"tmux"}`:                                                                                                             {},
		`{"v":1,"verb":"hold","seconds":-1}`:                                                                                                                              {},
		`{"v":1,"verb":"hold","seconds":9223372036854775807}`:                                                                                                             {},
		`{"v":1,"verb":"hold","command":"` + strings.Repeat("x", session.MaxCommandName+1) + `"}`:                                                                         {},
		`{"v":1,"verb":"hold","seconds":60,"peer":{"Pid":1}}`:                                                                                                             {},
		`{"v":1,"verb":"status","seconds":60}`:                                                                                                                            {},
		`{"v":1,"verb":"login","leader":7}`:                                                                                                                               {V: 1, Verb: "login", Leader: 7},
		`{"v":1,"verb":"login"}`:                                                                                                                                          {},
		`{"v":1,"verb":"login","leader":-7}`:                                                                                                                              {},
		`{"v":1,"verb":"status","leader":7}`:                                                                                                                              {},
		`{"v":1,"verb":"release"}`:                                                                                                                                        {V: 1, Verb: "release"},
		`{"v":1,"verb":"release","lease":2}`:                                                                                                                              {V: 1, Verb: "release", Lease: 2},
		`{"v":1,"verb":"hold","lease":2}`:                                                                                                                                 {},
		`{"v":2,"verb":"status"}`:                                                                                                                                         {},
		`{"verb":"status"}`:                                                                                                                                               {},
		`{"v":1}`:                                                                                                                                                         {},
		`{"v":1,"verb":"reboot"}`:                                                                                                                                         {},
		`{"v":1,"verb":"status","force":true}`:                                                                                                                            {},
		`{"v":1,"verb":"status"}{"v":1,"verb":"wipe"}`:                                                                                                                    {},
		`{"v":1,"verb":"wipe","paths":["Li4="]}`:                                                                                                                          {}, // ..
		`{"v":1,"verb":"wipe","paths":["L2V0Yy9wYXNzd2Q="]}`:                                                                                                              {}, // /etc/passwd
		`{"v":1,"verb":"wipe","paths":["YS8uLi8uLi9i"]}`:                                                                                                                  {}, // a/../../b
		`{"v":1,"verb":"wipe","paths":[""]}`:                                                                                                                              {},
		`{"v":1,"verb":"wipe","paths":["not base64"]}`:                                                                                                                    {},
		`[]`: {}, ``: {}, `{`: {}, `null`: {}, "\x00": {}, `"status"`: {},
	} {
		got, err := parseRequest([]byte(in))
		switch refuse := want.V == 0; {
		case refuse && err == nil:
			t.Errorf("%s: accepted as %+v", in, got)
		case refuse && fault.KindOf(err) != fault.BadRequest:
			t.Errorf("%s: error of kind %s", in, fault.KindOf(err))
		case !refuse && (err != nil || !reflect.DeepEqual(got, want)):
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
}

// FuzzParseRequest: whatever comes in, what is accepted is one of the verbs,
// stays inside the mount, and means the same when it is sent again.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"v":1,"verb":"status"}`))
	f.Add([]byte(`{"v":1,"verb":"login","leader":1}`))
	f.Add([]byte(`{"v":1,"verb":"wipe","paths":["YS9i","Yy8uLi9k"]}`))
	f.Add([]byte(`{"v":1,"verb":"skeleton","skeleton":[{"path":"a/b","mode":448,"outside":"/o","links":["l"]}]}`))
	f.Add([]byte(`{"v":1,"verb":"skeleton","skeleton":[]}`))
	f.Add([]byte(`{"v":1,"verb":"unmount"}`))
	f.Add([]byte(`{"v":1,"verb":"upgrade"}`))
	f.Add([]byte(`{"v":1,"verb":"hold","seconds":60}`))
	f.Add([]byte(`{"v":1,"verb":"hold","command":"tmux"}`))
	f.Add([]byte(`{"v":1,"verb":"login","leader":7}`))
	f.Add([]byte(`{"v":1,"verb":"release","lease":2}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			if fault.KindOf(err) != fault.BadRequest || len(err.Error()) > 4*len(line)+1000 {
				t.Fatalf("kind %s, %d bytes of error for %d of request", fault.KindOf(err), len(err.Error()), len(line))
			}
			return
		}
		if !slices.Contains([]string{verbStatus, verbWipe, verbSkeleton, verbUnmount, verbUpgrade, verbHold, verbLogin, verbRelease}, r.Verb) || r.V != protocolVersion {
			t.Fatalf("accepted %+v", r)
		}
		if r.Paths != nil && r.Verb != verbWipe {
			t.Fatalf("accepted paths with %+v", r)
		}
		for _, p := range r.Paths {
			if in := path.Join("/mnt", string(p)); !strings.HasPrefix(in, "/mnt/") && in != "/mnt" || strings.ContainsRune(string(p), 0) {
				t.Fatalf("%q leads to %q", p, in)
			}
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := parseRequest(again)
		if err != nil {
			t.Fatalf("%s is refused: %v", again, err)
		}
		// An empty list and none are the same request in JSON.
		if third, err := encode(r2); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s became %s, %v", again, third, err)
		}
	})
}

// The names of fields are the interface to scripts.
func TestStatusFieldNames(t *testing.T) {
	line, err := json.Marshal(Status{Protections: []Protection{{}}, Messages: []Message{{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"format_version", "mount", "mountpoint", "since", "pid", "version", "options", "content", "aead",
		"protections", "name", "active", "detail", "memory", "locked", "lock_limit", "pss", "messages", "time", "text"} {
		if !strings.Contains(string(line), `"`+name+`":`) {
			t.Errorf("%s is missing from %s", name, line)
		}
	}
}
