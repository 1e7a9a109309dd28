// Command tokenfs-pam has the filesystem mounted for login sessions on hosts
// without a systemd user manager. pam_exec(8) runs it as root when a session is
// opened and when it is closed. It never fails, and takes eight seconds at most:
// five for names, which may come from far away, and three for everything else.
//
// As root it does no more than keep account of sessions (record.go) and make and
// remove /run/user/UID (runtime.go). All else is done by tokenfs as the user
// (user.go), whose keeper follows the sessions' leaders by itself: also those
// that are killed, and so never closed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/cmd/internal/printable"
	"tokenfs/lifecycle/pamservice"
)

const (
	program = "tokenfs-pam"
	selfExe = "/proc/self/exe" // also when the file was replaced

	// nameLimit is for asking who somebody is. A directory service whose cache is
	// cold takes seconds for that, and those whom PAM logs in have waited for it.
	nameLimit = 5 * time.Second
	limit     = nameLimit + 3*time.Second // for everything
)

func main() {
	kind, service, name := os.Getenv("PAM_TYPE"), os.Getenv("PAM_SERVICE"), os.Getenv("PAM_USER")
	// Nothing of what is run from here is to depend on how somebody logs in.
	os.Clearenv()
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	inheritNothing()
	os.WriteFile("/proc/self/comm", []byte(program), 0) // run by itself it would be called exe
	unix.Umask(0o022)
	os.Chdir("/")
	// A process of sshd's would be the last one to be killed where memory runs out.
	os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)

	if err := act(kind, service, name); err != nil {
		// pam_exec shows it to the user, if it is told to.
		fmt.Printf("tokenfs: %s\n", strings.Join(printable.Lines(err), "; "))
	}
}

// inheritNothing keeps what this program was started with, but for its standard
// files, from what it starts.
func inheritNothing() { unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) }

func act(kind, service, name string) error {
	switch {
	case len(os.Args) == 4 && os.Args[1] == removeVerb:
		return remove(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == emptyVerb:
		return empty(os.Args[2])
	}
	time.AfterFunc(limit, func() {
		fmt.Printf("tokenfs: not mounted: it took longer than %v\n", limit)
		os.Exit(0)
	})
	if os.Geteuid() != 0 {
		return errors.New("tokenfs-pam is for pam_exec, which runs it as root")
	}
	if !pamservice.OpensLogin(service) {
		return nil
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return nil // the user unit does it
	}
	ctx, cancel := context.WithTimeout(context.Background(), nameLimit)
	defer cancel()
	a, err := lookUp(ctx, name)
	if err != nil || !a.wanted() {
		return err
	}
	switch kind {
	case "open_session":
		return a.open(ctx, os.Getppid())
	case "close_session":
		return a.close(os.Getppid())
	}
	return nil
}

// open mounts, or tells the filesystem that is there of one more session.
func (a account) open(names context.Context, leader int) error {
	groups, err := a.groups(names)
	if err != nil {
		return err
	}
	err = withRecord(a.uid, func(r *record) error {
		made, err := makeRuntime(a.uid, a.gid)
		r.Made = r.Made || made
		return errors.Join(err, r.add(leader))
	})
	if err != nil {
		return err
	}
	said, err := a.tokenfs(groups, "mount", fmt.Sprintf("--leader=%d", leader))
	if err != nil {
		return fmt.Errorf("not mounted: %s (%w)", said, err)
	}
	return nil
}

// close leaves the end to the keeper, which notices it. The directory goes when
// the keeper has ended, for which nobody who logs out has to wait.
func (a account) close(leader int) error {
	return withRecord(a.uid, func(r *record) error {
		r.remove(leader)
		if !r.Made || len(r.Leaders) > 0 || r.Remover.alive() {
			return nil
		}
		pid, err := a.startRemover()
		if err != nil {
			return err
		}
		start, err := startOf(pid)
		r.Remover = process{pid, start}
		return err
	})
}
