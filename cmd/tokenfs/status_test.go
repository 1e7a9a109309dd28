package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"tokenfs/lifecycle"
)

// The page has every field that scripts are given, two levels deep.
func TestStatusFieldsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	field := func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	}
	for _, of := range []reflect.Type{reflect.TypeFor[lifecycle.Status](), reflect.TypeFor[absent]()} {
		for i := range of.NumField() {
			f := of.Field(i)
			found++
			if !strings.Contains(string(page), "`"+field(f)+"`") && !strings.Contains(string(page), "`"+field(f)+".") {
				t.Errorf("docs/status.md does not tell about %s", field(f))
			}
			if f.Type.Kind() != reflect.Struct {
				continue
			}
			for j := range f.Type.NumField() {
				if inner := field(f.Type.Field(j)); inner != "" && inner != "-" && !strings.Contains(string(page), "."+inner+"`") {
					t.Errorf("docs/status.md does not tell about %s.%s", field(f), inner)
				}
			}
		}
	}
	if found < 12 {
		t.Errorf("only %d fields found", found)
	}
}
