package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tokenfs/lifecycle"
)

// What can make a disk remember what was in memory: that of the apps above all,
// because keys and requests of tokenfs itself are locked.

const inApps = "what apps have of tokens in their own memory"

func swap(m *Machine, found *findings) {
	areas, err := m.swapAreas()
	if err != nil {
		found.unreadable(err)
		return
	}
	for _, area := range areas {
		if strings.HasPrefix(filepath.Base(area), "zram") {
			continue // see zram
		}
		device, err := m.deviceOf(area)
		if err != nil {
			found.add(Unknown, "see lsblk whether it is on an encrypted device", "%s is swap, and whether it is encrypted is not known: %v", area, err)
			continue
		}
		if !m.encrypted(device) {
			found.add(Weak, "encrypt it with a random key in /etc/crypttab (option swap), use zram instead, or swapoff "+area,
				"%s is swap and not encrypted: %s can get to disk", area, inApps)
		}
	}
}

func (m *Machine) swapAreas() (areas []string, err error) {
	text, err := m.read("/proc/swaps")
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(text, "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 {
			areas = append(areas, unescape(f[0]))
		}
	}
	return areas, nil
}

// unescape undoes what the kernel does to blanks in its tables.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// deviceOf is the kernel's name of a block device, or of the one that a file is
// on.
func (m *Machine) deviceOf(name string) (string, error) {
	if !strings.HasPrefix(name, "/dev/") {
		source, err := m.sourceOf(name)
		if err != nil {
			return "", err
		}
		name = source
	}
	if target, err := os.Readlink(m.path(name)); err == nil {
		name = target
	}
	device := filepath.Base(name)
	if _, err := os.Stat(m.path("/sys/class/block/" + device)); err != nil {
		return "", fmt.Errorf("%s is no block device here", name)
	}
	return device, nil
}

// sourceOf is what the filesystem is mounted from that a file is on.
func (m *Machine) sourceOf(name string) (source string, err error) {
	table, err := m.mounts()
	if err != nil {
		return "", err
	}
	longest := -1
	for _, e := range table {
		if (name == e.point || strings.HasPrefix(name, strings.TrimSuffix(e.point, "/")+"/")) && len(e.point) >= longest {
			longest, source = len(e.point), e.source
		}
	}
	if source == "" {
		return "", fmt.Errorf("no mount has %s on it", name)
	}
	return source, nil
}

type mountEntry struct{ point, kind, source string }

func (m *Machine) mounts() (table []mountEntry, err error) {
	text, err := m.read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) > 4 && len(right) > 1 {
			table = append(table, mountEntry{unescape(left[4]), right[0], unescape(right[1])})
		}
	}
	return table, nil
}

// encrypted says whether a device is dm-crypt's, or all it is made of is.
func (m *Machine) encrypted(device string) bool {
	uuid, _ := m.read("/sys/class/block/" + device + "/dm/uuid")
	if strings.HasPrefix(uuid, "CRYPT-") {
		return true
	}
	slaves, _ := os.ReadDir(m.path("/sys/class/block/" + device + "/slaves"))
	for _, s := range slaves {
		if !m.encrypted(s.Name()) {
			return false
		}
	}
	return len(slaves) > 0
}

func zram(m *Machine, found *findings) {
	areas, err := m.swapAreas()
	if err != nil {
		return // swap says so
	}
	for _, area := range areas {
		name := filepath.Base(area)
		backing, _ := m.read("/sys/block/" + name + "/backing_dev")
		if !strings.HasPrefix(name, "zram") || backing == "" || backing == "none" {
			continue
		}
		device, err := m.deviceOf(backing)
		if err == nil && m.encrypted(device) {
			continue
		}
		found.add(Weak, "make it without a backing device (writeback-device in zram-generator.conf), or with an encrypted one",
			"%s writes back to %s, which is not known to be encrypted: %s can get to disk", area, backing, inApps)
	}
}

func hibernation(m *Machine, found *findings) {
	states, err := m.read("/sys/power/state")
	if err != nil {
		found.unreadable(err)
		return
	}
	how, _ := m.read("/sys/power/disk")
	if !strings.Contains(" "+states+" ", " disk ") || how == "" || strings.Contains(how, "[disabled]") {
		return
	}
	if m.secretmem() {
		return // the kernel refuses to hibernate meanwhile
	}
	areas, _ := m.swapAreas()
	for _, area := range areas {
		if device, err := m.deviceOf(area); err == nil && !strings.HasPrefix(device, "zram") && !m.encrypted(device) {
			found.add(Weak, "mount with --secretmem=on, which forbids hibernation, encrypt the swap, or systemctl mask hibernate.target",
				"this machine can hibernate to %s, which is not encrypted: keys, and %s, would be in the image", area, inApps)
			return
		}
	}
}

// secretmem says whether keys are in a memfd_secret now.
func (m *Machine) secretmem() bool {
	return m.Status != nil && slices.ContainsFunc(m.Status.Protections, func(p lifecycle.Protection) bool {
		return p.Name == "secretmem" && p.Active
	})
}

func coreDumps(m *Machine, found *findings) {
	pattern, err := m.read("/proc/sys/kernel/core_pattern")
	if err != nil {
		found.unreadable(err)
		return
	}
	helper, isPipe := strings.CutPrefix(pattern, "|")
	program, _, _ := strings.Cut(helper, " ")
	switch {
	case !isPipe:
		limit, err := m.limit("Max core file size")
		if err != nil {
			found.unreadable(err)
		} else if limit != 0 && pattern != "/dev/null" {
			found.add(Weak, "ulimit -c 0, and * hard core 0 in /etc/security/limits.conf",
				"an app that crashes leaves its memory on disk, as %s", pattern)
		}
	case strings.Contains(helper, "systemd-coredump"):
		if m.coredumpStorage() != "none" {
			found.add(Weak, "Storage=none in /etc/systemd/coredump.conf", "systemd-coredump keeps the memory of apps that crash in /var/lib/systemd/coredump")
		}
	case strings.Contains(helper, "apport"):
		found.add(Weak, "systemctl disable --now apport", "apport keeps the memory of apps that crash in /var/crash")
	case isPipe && program == "", strings.HasSuffix(program, "/false"), strings.HasSuffix(program, "/true"):
	default:
		found.add(Weak, "see what it does with them, or sysctl kernel.core_pattern='|/bin/false'", "the memory of apps that crash is given to %s", helper)
	}
}

// coredumpStorage is the last Storage= that systemd-coredump reads.
func (m *Machine) coredumpStorage() (storage string) {
	files := []string{m.path("/etc/systemd/coredump.conf")}
	for _, dir := range []string{"/usr/lib/systemd", "/run/systemd", "/etc/systemd"} {
		more, _ := filepath.Glob(m.path(dir + "/coredump.conf.d/*.conf"))
		files = append(files, more...)
	}
	storage = "external"
	for _, name := range files {
		text, _ := os.ReadFile(name)
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Storage="); ok {
				storage = strings.TrimSpace(v)
			}
		}
	}
	return storage
}

// limit is a soft limit of this process, which apps have, too; -1 for none.
func (m *Machine) limit(name string) (int64, error) {
	text, err := m.read("/proc/self/limits")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			soft, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if soft == "unlimited" {
				return -1, nil
			}
			return strconv.ParseInt(soft, 10, 64)
		}
	}
	return 0, errors.New("/proc/self/limits has no " + name)
}

// enoughLocked is what distributions allow since systemd 246, and what keys and
// requests fit into.
const enoughLocked = 8 << 20

func memlock(m *Machine, found *findings) {
	if m.Status != nil {
		return // it says itself whether all could be locked: see protections
	}
	limit, err := m.limit("Max locked memory")
	switch {
	case err != nil:
		found.unreadable(err)
	case limit >= 0 && limit < enoughLocked && m.UID != 0:
		found.add(Weak, "* - memlock 65536 in /etc/security/limits.conf, and DefaultLimitMEMLOCK=64M in /etc/systemd/system.conf; then log in anew",
			"only %d KiB of memory may be locked: keys and requests may not all be kept out of swap", limit>>10)
	}
}

func ptrace(m *Machine, found *findings) {
	scope, err := m.read("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case err != nil:
		found.unreadable(err)
	case scope == "":
		found.add(Weak, "boot a kernel with Yama (lsm=...,yama), as distributions' are", "this kernel has no Yama: any program of yours can read the memory of the apps that use tokens")
	case scope == "0":
		found.add(Weak, "sysctl kernel.yama.ptrace_scope=1, and a file in /etc/sysctl.d with that", "any program of yours can read the memory of the apps that use tokens (kernel.yama.ptrace_scope is 0)")
	}
}
