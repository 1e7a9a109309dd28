package doctor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tokenfs/integration/apps"
	"tokenfs/lifecycle"
)

// Severity orders findings, the worst first.
type Severity int

const (
	Exposed Severity = iota // secrets lie in the clear where they should not
	Broken                  // something does not work, or protects nothing
	Weak                    // what is promised holds, but less than it could
	Unknown                 // could not be looked at
	Note                    // good to know
)

var severityNames = [...]string{"exposed", "broken", "weak", "unknown", "note"}

func (s Severity) String() string               { return severityNames[s] }
func (s Severity) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// A Finding is something to be done.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy"`
}

// ReportVersion changes when a field of Report changes its meaning or goes
// away; new fields do not change it.
const ReportVersion = 1

// A Report is what tokenfs doctor says.
type Report struct {
	FormatVersion int       `json:"format_version"`
	Checks        []string  `json:"checks"` // all that were made
	Findings      []Finding `json:"findings"`
}

// A Machine is what is examined, and who asks.
type Machine struct {
	Root       string // "/"
	UID        int
	User       string
	Getenv     func(string) string
	Mountpoint string
	Nowhere    error             // why there is no mountpoint by default
	Mistakes   error             // in tokenfs's settings, joined
	Status     *lifecycle.Status // nil: nobody answers
	StatusErr  error             // why not
	Apps       *apps.Engine
}

// checks are all there are; each appends what it finds.
var checks = []struct {
	name string
	run  func(m *Machine, found *findings)
}{
	{"plaintext", plaintext},
	{"configuration", configuration},
	{"beneath", beneath},
	{"mounted", mounted},
	{"protections", protections},
	{"links", links},
	{"settings", settings},
	{"locks", locks},
	{"copies", copies},
	{"swap", swap},
	{"zram", zram},
	{"hibernation", hibernation},
	{"core_dumps", coreDumps},
	{"ptrace", ptrace},
	{"memlock", memlock},
	{"kernel", kernel},
	{"fuse", fuse},
	{"fusermount", fusermount},
	{"apparmor", apparmor},
	{"sys_admin_access", sysAdminAccess},
	{"runtime_dir", runtimeDir},
	{"logins", logins},
}

// Examine makes every check.
func Examine(m *Machine) Report {
	r := Report{FormatVersion: ReportVersion, Findings: []Finding{}}
	for _, c := range checks {
		r.Checks = append(r.Checks, c.name)
		found := findings{check: c.name}
		c.run(m, &found)
		r.Findings = append(r.Findings, found.list...)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	return r
}

type findings struct {
	check string
	list  []Finding
}

func (f *findings) add(s Severity, remedy, format string, args ...any) {
	f.list = append(f.list, Finding{f.check, s, fmt.Sprintf(format, args...), remedy})
}

// unreadable is for what should be there and cannot be read.
func (f *findings) unreadable(err error) {
	f.add(Unknown, "run tokenfs doctor where it can be read, or look yourself", "not known: %v", err)
}

func (m *Machine) path(name string) string { return filepath.Join(m.Root, name) }

// read returns a file's contents without the newline at its end; "" if there
// is none.
func (m *Machine) read(name string) (string, error) {
	text, err := os.ReadFile(m.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}
