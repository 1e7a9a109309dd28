// Package faulttest checks errors in tests.
package faulttest

import (
	"strings"
	"testing"

	"tokenfs/lifecycle/fault"
)

// Want checks that err is of a kind and tells about each of the words.
func Want(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %s about %q", kind, words)
	}
	if fault.KindOf(err) != kind {
		t.Errorf("kind %s, want %s: %v", fault.KindOf(err), kind, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}
