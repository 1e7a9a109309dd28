package conformance

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/lifecycle"
)

// daemon is the role of the process that serves: never the one that has the
// client's page faults.
func daemon(args []byte) error {
	var opt mountOptions
	if err := json.Unmarshal(args, &opt); err != nil {
		return err
	}
	parent, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3) // Run puts /dev/null there
	if err != nil {
		return err
	}
	go endWithParent(os.NewFile(uintptr(parent), "parent"))
	options := lifecycle.Options{Mountpoint: opt.Mountpoint, Size: opt.Size, Inodes: opt.Inodes, PlainSaves: opt.PlainSaves}
	if opt.AllowOther {
		options.MountOptions = []string{"allow_other"}
	}
	return lifecycle.Run(context.Background(), options)
}

func (m *mounted) status(t testing.TB) lifecycle.Status {
	t.Helper()
	if m.daemon == nil {
		t.Skipf("NOT RUN: %s is set: no status there", envDir)
	}
	st, err := lifecycle.Query(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// wipe destroys everything on the mount, as the command does.
func (m *mounted) wipe(t testing.TB) {
	t.Helper()
	if m.daemon == nil {
		t.Skipf("%s is set: no wipe there", envDir)
	}
	if err := lifecycle.WipeAll(m.Dir); err != nil {
		t.Fatal(err)
	}
}
