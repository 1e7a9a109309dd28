package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

// fuzzed are the files that the doctor reads which more than the kernel decides
// about: whoever mounts something, makes swap or a cgroup, or configures.
var fuzzed = []string{
	"/proc/self/mountinfo", "/proc/swaps", "/proc/self/limits", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/osrelease",
	"/sys/power/state", "/sys/power/disk", "/etc/systemd/coredump.conf", "/home/u/.azure/config", "/home/u/.config/tokenfs/apps.json",
	"/home/u/.azure/msal_token_cache.json.lockfile",
}

// FuzzMachine: whatever is in a file, nothing panics, and each finding says
// something and what helps.
func FuzzMachine(f *testing.F) {
	for i := range fuzzed {
		f.Add(uint8(i), "")
		f.Add(uint8(i), "\x00")
		f.Add(uint8(i), " - \n1 2 3 4 / - a b\n\\\\040 \\0")
	}
	f.Add(uint8(0), "1 0 8:1 / / rw - ext4 /dev/sda2 rw\n2 1 0:5 / /run/user/1000 rw - tmpfs tmpfs rw\n")
	f.Add(uint8(1), "Filename Type Size Used Priority\n/swap\\040file file 1 0 5\n/dev/zram0\n/dev/../x\n")
	f.Add(uint8(2), "Max core file size unlimited\nMax locked memory x y\n")
	f.Add(uint8(3), "|")
	f.Add(uint8(3), "| /usr/lib/systemd/systemd-coredump %P")
	f.Add(uint8(9), `{"format_version":1,"links":[null]}`)
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		p := newPatient(t)
		p.link("terraform")
		p.StatusErr, p.Status = os.ErrNotExist, nil
		name := p.at(fuzzed[int(which)%len(fuzzed)])
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, f := range Examine(p.Machine).Findings {
			if f.Text == "" || f.Remedy == "" || f.Check == "" {
				t.Errorf("finding %+v", f)
			}
		}
	})
}
