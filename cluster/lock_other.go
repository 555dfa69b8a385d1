//go:build !windows && (!unix || solaris || aix)

package cluster

import (
	"errors"
	"fmt"
	"os"
)

func lockDir(dir string) (*os.File, error) {
	return nil, fmt.Errorf("lock %s: %w", dir, errors.ErrUnsupported)
}

func syncDir(*os.Root) error { return errors.ErrUnsupported }
