package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"pen/internal/config"
	"pen/vip"
)

// Release takes the virtual addresses of these settings away from this machine,
// if a pen that was killed together with its guard has left any, and the packet
// filter's rules for them. It says on w what it has found. While a pen serves
// here it refuses.
func Release(line *config.CommandLine, w io.Writer) error {
	file := readStart(line.Local.File)
	if file.err != nil {
		return file.err
	}
	var local config.Local
	for _, s := range line.With(file.Statements) {
		s.Set(&local)
	}
	if !local.Clustered() || len(local.VIPs) == 0 {
		return nil
	}
	if self, err := selfOf(&local); err == nil {
		if err := deserted(self.Addr); err != nil {
			return err
		}
	}
	gone, err := vip.Release(vipConfig(&local, nil))
	if gone > 0 {
		fmt.Fprintf(w, "released %d addresses that an earlier process had left\n", gone)
	}
	return err
}

// deserted returns an error if somebody has the cluster's port of this node.
func deserted(self netip.AddrPort) error {
	ln, err := net.Listen("tcp", self.String())
	if err == nil {
		return ln.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: pen runs on this node; to move the addresses say `cluster transfer` on its control port, or end it first", self)
	}
	return nil // without its own address it can not run either
}
