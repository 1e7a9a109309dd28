package main

import (
	"strings"
	"testing"
)

// A report says which ratios miss their bar, and which rival could not run.
func TestReport(t *testing.T) {
	us, them := &rival{name: ours}, &rival{name: "gocryptfs"}
	gone := &rival{name: "cryfs", absent: "not there"}
	r := &report{rivals: []*rival{us, them, gone}, cells: map[string]map[*rival]*cell{
		"load-200": {us: {times: []uint32{1000, 6000, 9000}}, them: {times: []uint32{10000, 10000, 30000}}},
		"save":     {us: {times: []uint32{6000}}, them: {times: []uint32{10000}}},
		"list":     {us: {times: []uint32{6000}}, them: {failed: "went away"}},
	}}
	var b strings.Builder
	r.print(&b)
	for _, want := range []string{"0.60 (0.7)", "! 0.60 (0.5)", "cryfs      NOT MEASURED: not there", "went away", "6.0 9.0"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report does not contain %q:\n%s", want, &b)
		}
	}
	if svg := r.picture(&workloads[1].series[0], r.cells["load-200"]); !strings.Contains(svg, "10, 30") {
		t.Errorf("the picture does not give the rival's numbers:\n%s", svg)
	}
}

func TestSummary(t *testing.T) {
	if got := summary([]string{"OPEN", "READ", "READ", "RELEASE"}); got != "OPEN READ×2 RELEASE" {
		t.Errorf("got %s", got)
	}
	if got := summary(strings.Fields(strings.Repeat("READ OPEN ", 30))); got != "altogether OPEN×30 READ×30" {
		t.Errorf("got %s", got)
	}
}
