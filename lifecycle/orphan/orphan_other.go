//go:build !amd64 && !arm64

package orphan

import (
	"errors"
	"fmt"
	"time"
)

// Survive is not there: the process ends with its parent.
func Survive(int32, time.Duration) error {
	return fmt.Errorf("outlive the parent: %w", errors.ErrUnsupported)
}
