package torture

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

var (
	kills    = flag.Int("kills", 220, "how often the worker is killed")
	duration = flag.Duration("duration", 0, "go on for this long, whatever -kills says")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of everything random")
	upgrades = flag.Int("upgrades", 12, "how often the binary is upgraded meanwhile")
	without  = flag.String("without", "", "clients to leave out, separated by commas")
	soak     = flag.Duration("soak", 0, "run the soak test, for this long")
	rare     = flag.Duration("rare", 0, "in the soak test, kill a worker this often; 0: never")
)

// roleVar makes the test binary one of the client processes.
const roleVar = "_TOKENFS_TORTURE_CLIENT"

// A client's arguments are its number, the seed, the directory it works in, the
// file that ends it, and where its log goes.
func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		flag.Parse()
		os.Exit(m.Run())
	}
	if err := runClient(role, os.Args[1:]); err != nil {
		fmt.Printf("%s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runClient(role string, args []string) error {
	run, ok := clients[role]
	if !ok || len(args) != 5 {
		return fmt.Errorf("internal error: client %q with arguments %q", role, args)
	}
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	c, err := newClient(number, seed, args[2], args[3], args[4])
	if err != nil {
		return err
	}
	if err := run(c); err != nil {
		return err
	}
	return c.finish()
}
