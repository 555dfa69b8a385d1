package control

import (
	"net"

	"golang.org/x/sys/unix"
)

// credentials tells who connected to a Unix socket.
func credentials(c net.Conn) (uid, pid int) {
	uid, pid = -1, -1
	u, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid, pid = int(cred.Uid), int(cred.Pid)
		}
	})
	return
}
