//go:build tokenfs_torture

package lifecycle

import (
	"os"

	"tokenfs/crypt"
	"tokenfs/lifecycle/process"
)

// obeyTest is called by workers alone: a keeper passes the same points.
func obeyTest() error {
	if path := os.Getenv(process.OrdersVar); path != "" {
		return crypt.Obey(path)
	}
	return nil
}
