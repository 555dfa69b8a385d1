//go:build !unix

package proxy

import (
	"errors"
	"net"
	"syscall"
)

// rawOf would return what a connection can be read from without waiting.
func rawOf(net.Conn) syscall.RawConn { return nil }

func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
