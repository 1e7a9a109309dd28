package fs

import (
	"fmt"
	"os"
	"testing"
)

// The tests play several processes: the test binary runs itself in a role.
const roleVar = "TOKENFS_FS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		os.Exit(m.Run())
	case "worker":
		exit(runWorker())
	case "client":
		exit(runClient(os.Args[1], os.Args[2]))
	default:
		exit(fmt.Errorf("no such role: %s", role))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
