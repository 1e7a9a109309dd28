package conformance

import (
	"context"
	"encoding/json"
	"testing"

	"tokenfs/lifecycle"
)

// daemon is the role of the process that serves: never the one that has the
// client's page faults.
func daemon(args []byte) error {
	var opt mountOptions
	if err := json.Unmarshal(args, &opt); err != nil {
		return err
	}
	go endWithParent()
	options := lifecycle.Options{Mountpoint: opt.Mountpoint, Size: opt.Size, Inodes: opt.Inodes, PlainSaves: opt.PlainSaves}
	if opt.AllowOther {
		options.MountOptions = []string{"allow_other"}
	}
	return lifecycle.Run(context.Background(), options)
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
