//go:build !linux

package proxy

import (
	"errors"
	"syscall"
)

// transparently is for Linux.
func transparently(string, syscall.RawConn) error { return errors.ErrUnsupported }
