//go:build tokenfs_torture

package lifecycle

import (
	"os"

	"tokenfs/crypt"
)

// ordersVar names the file with a test's orders to the workers.
const ordersVar = "_TOKENFS_ORDERS"

// obeyTest is called by workers alone: a keeper passes the same points.
func obeyTest() error {
	if path := os.Getenv(ordersVar); path != "" {
		return crypt.Obey(path)
	}
	return nil
}

func testEnv() []string { return []string{ordersVar + "=" + os.Getenv(ordersVar)} }
