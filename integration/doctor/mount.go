package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"tokenfs/integration/apps"
	"tokenfs/lifecycle/fault"
	"tokenfs/lifecycle/mount"
)

// What mounting needs, and whether it is mounted.

// configuration are tokenfs's own settings. Nothing is mounted with one that
// cannot be read; what is mounted goes on.
func configuration(m *Machine, found *findings) {
	mistakes := []error{m.Mistakes}
	if joined, ok := m.Mistakes.(interface{ Unwrap() []error }); ok {
		mistakes = joined.Unwrap()
	}
	for _, err := range mistakes {
		if err != nil {
			found.add(Broken, "correct it: tokenfs help settings has the values", "a setting keeps tokenfs from mounting: %v", err)
		}
	}
}

func kernel(m *Machine, found *findings) {
	release, err := m.read("/proc/sys/kernel/osrelease")
	var major, minor int
	if err == nil {
		_, err = fmt.Sscanf(release, "%d.%d", &major, &minor)
	}
	version := major*1000 + minor
	switch {
	case err != nil:
		found.unreadable(fmt.Errorf("version of the kernel: %w", err))
	case version < 5015:
		found.add(Broken, "use Linux 5.15 or newer", "Linux %s is older than tokenfs is made for", release)
	case version < 6006:
		found.add(Note, "use Linux 6.6 or newer, where an app needs it", "Linux %s: a file on the filesystem cannot be mapped shared, which SQLite's write-ahead log needs", release)
	}
}

func fuse(m *Machine, found *findings) {
	st, err := os.Stat(m.path("/dev/fuse"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found.add(Broken, "modprobe fuse; for a container, --device /dev/fuse", "there is no /dev/fuse: nothing can be mounted")
	case err != nil:
		found.unreadable(err)
	case m.UID != 0 && st.Mode().Perm()&0o006 != 0o006:
		found.add(Broken, "chmod 0666 /dev/fuse as root, as distributions have it", "/dev/fuse has mode %04o: you cannot mount", st.Mode().Perm())
	}
}

func fusermount(m *Machine, found *findings) {
	if m.UID == 0 {
		return // root needs no helper
	}
	for _, place := range mount.HelperPlaces {
		st, err := os.Stat(m.path(place))
		if err != nil {
			continue
		}
		if st.Mode()&fs.ModeSetuid == 0 {
			found.add(Broken, "chmod u+s "+place+" as root, or install fuse3 anew", "%s is not setuid root: you cannot mount", place)
		}
		return
	}
	found.add(Broken, "install the package fuse3", "there is no fusermount3 in /usr/bin, nor where other distributions put it: you cannot mount")
}

func apparmor(m *Machine, found *findings) {
	enabled, _ := m.read("/sys/module/apparmor/parameters/enabled")
	if enabled != "Y" || m.Status != nil || m.UID == 0 {
		return
	}
	for _, name := range []string{"fusermount3", "usr.bin.fusermount3"} {
		profile := "/etc/apparmor.d/" + name
		if _, err := os.Stat(m.path(profile)); err != nil {
			continue
		}
		local, _ := m.read("/etc/apparmor.d/local/" + name)
		if !strings.Contains(local, "tokenfs") {
			found.add(Note, "where mounting fails with permission denied: mount fstype=fuse.tokenfs -> "+m.Mountpoint+"/, in /etc/apparmor.d/local/"+name+", then apparmor_parser -r "+profile,
				"AppArmor confines fusermount3 (%s), and may not let it mount on %s", profile, m.Mountpoint)
		}
	}
}

func sysAdminAccess(m *Machine, found *findings) {
	if access, _ := m.read("/sys/module/fuse/parameters/allow_sys_admin_access"); access == "Y" {
		found.add(Weak, "echo N > /sys/module/fuse/parameters/allow_sys_admin_access, and take it out of /etc/modprobe.d and the kernel's command line",
			"root can read everybody's FUSE filesystems as they are (allow_sys_admin_access): backups and searches of root's find the tokens")
	}
}

func runtimeDir(m *Machine, found *findings) {
	if m.Nowhere != nil {
		text, remedy := m.Nowhere.Error(), "name a directory of your own with --mountpoint"
		if i := strings.LastIndex(text, ": "); i > 0 {
			text, remedy = text[:i], text[i+2:]
		}
		found.add(Broken, remedy, "there is no place to mount: %s", text)
		return
	}
	dir := m.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = "/run/user/" + strconv.Itoa(m.UID)
		if m.UID != 0 {
			found.add(Note, "log in through PAM and systemd, or export XDG_RUNTIME_DIR="+dir, "XDG_RUNTIME_DIR is not set here; %s is used", dir)
		}
	}
	if !strings.HasPrefix(m.Mountpoint, dir+"/") {
		return // it is not needed
	}
	st, err := os.Stat(m.path(dir))
	switch {
	case err != nil:
		found.unreadable(err)
		return
	case !st.IsDir() || st.Mode().Perm() != 0o700:
		found.add(Broken, "chmod 0700 "+apps.ShellWord(dir), "%s has mode %v, and others must be kept out", dir, st.Mode())
	case int(st.Sys().(*syscall.Stat_t).Uid) != m.UID:
		found.add(Broken, "unset XDG_RUNTIME_DIR (sudo and su can leave it so)", "%s is not yours", dir)
	}
	table, err := m.mounts()
	if err != nil {
		found.unreadable(err)
		return
	}
	kind, longest := "", -1
	for _, e := range table {
		if (dir == e.point || strings.HasPrefix(dir, strings.TrimSuffix(e.point, "/")+"/")) && len(e.point) >= longest {
			kind, longest = e.kind, len(e.point)
		}
	}
	if kind != "" && kind != "tmpfs" && kind != "ramfs" && m.UID != 0 {
		found.add(Note, "log in through PAM and systemd, which make it on tmpfs", "%s is on %s, not in memory: what is written beneath the mountpoint would be on disk", dir, kind)
	}
}

func mounted(m *Machine, found *findings) {
	if m.Status != nil {
		return
	}
	linked, err := m.Apps.Linked()
	if err != nil {
		found.add(Broken, "move it away, and link again", "%v", err)
	}
	switch kind := fault.KindOf(m.StatusErr); {
	case kind != fault.NotMounted:
		found.add(Broken, "tokenfs unmount, then tokenfs mount", "%v", m.StatusErr)
	case len(linked) > 0:
		found.add(Broken, "tokenfs mount", "nothing is mounted on %s, and linked apps fail until it is: %s", m.Mountpoint, strings.Join(linked, ", "))
	default:
		found.add(Note, "tokenfs mount", "nothing is mounted on %s", m.Mountpoint)
	}
}

// beneath looks at the directory while nothing covers it; else status does.
func beneath(m *Machine, found *findings) {
	if m.Status != nil || fault.KindOf(m.StatusErr) != fault.NotMounted {
		return
	}
	st, err := os.Lstat(m.path(m.Mountpoint))
	if err != nil || !st.IsDir() {
		return
	}
	entries, err := os.ReadDir(m.path(m.Mountpoint))
	if err != nil {
		found.unreadable(err)
		return
	}
	if len(entries) > 0 {
		found.add(Exposed, "look what it is, and remove it: a mount refuses to hide it", "%s has %q in it, and nothing is mounted there: some app has left its files in the clear", m.Mountpoint, entries[0].Name())
	}
	if st.Mode().Perm()&0o222 != 0 && m.UID != 0 {
		found.add(Weak, "chmod 0500 "+apps.ShellWord(m.Mountpoint)+" (tokenfs mount does it, too)", "%s can be written to while nothing is mounted there: apps would leave plaintext", m.Mountpoint)
	}
}

// remedies for protections that are not active; for others, what their detail
// ends with.
var remedies = map[string]string{
	"secretmem":            "a kernel from 5.14 on, booted with secretmem.enable=1 where that is not the default",
	"init_on_free":         "boot with init_on_free=1",
	"aes_instructions":     "none but another CPU",
	"keys_set_up_in_place": "use tokenfs on a CPU with AES instructions",
	"core_dumps_off":       "unmount and mount again; if it stays so, report it",
	"ptrace_off":           "unmount and mount again; if it stays so, report it",
	"closed_beneath":       "use tokenfs as an ordinary user; or chmod 0500 the directory when nothing is mounted",
}

func protections(m *Machine, found *findings) {
	if m.Status == nil {
		return
	}
	for _, p := range m.Status.Protections {
		severity := Weak
		switch {
		case p.Active || p.Name == "swap_absent" || p.Name == "swap_forbidden":
			continue // see swap
		case p.Name == "init_on_free" && m.secretmem():
			continue // the keys are in pages that the kernel clears
		case p.Name == "init_on_free" && strings.HasPrefix(p.Detail, "not known"):
			severity = Unknown
		case p.Name == "nothing_beneath":
			severity = Exposed
		case p.Name == "uncovered", p.Name == "mount_helper":
			severity = Broken
		case p.Name == "secretmem", p.Name == "init_on_free", p.Name == "binary_unreadable" && m.UID == 0, p.Name == "closed_beneath" && m.UID == 0:
			severity = Note
		}
		remedy := remedies[p.Name]
		if remedy == "" {
			remedy = p.Detail[strings.LastIndex(p.Detail, ": ")+1:]
		}
		found.add(severity, strings.TrimSpace(remedy), "%s: %s", p.Name, p.Detail)
	}
	if n := m.Status.Content.Altered; n > 0 {
		found.add(Broken, "write the files that cannot be read anew, test the machine's memory", "contents were found altered in memory, and not returned, %d times", n)
	}
	if why := m.Status.Content.ReadOnly; why != "" {
		found.add(Broken, "tokenfs wipe, and sign in anew", "the filesystem is read-only: %s", why)
	}
}

// logins looks at what ends the tokens when the last login does.
func logins(m *Machine, found *findings) {
	_, err := os.Stat(m.path("/var/lib/systemd/linger/" + m.User))
	lingers := err == nil
	switch {
	case m.Status != nil && m.Status.Session.Follows:
	case m.Status != nil:
		found.add(Weak, "have it mounted at login, by the user unit or PAM, or run tokenfs unmount at the end", "a logout does not end this filesystem: nobody follows your logins")
	case lingers:
		found.add(Weak, "loginctl disable-linger, unless you need it", "you linger (/var/lib/systemd/linger/%s): your processes, and what is mounted, outlive your logins, unless tokenfs was mounted at login", m.User)
	}
}
