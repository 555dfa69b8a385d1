package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// stamped makes the kernel note when each frame came: this process may have been
// frozen since, or slow.
func stamped(c *packet.Conn) (syscall.RawConn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("times of frames: %w", err)
	}
	return raw, nil
}

// receive reads one frame, and for how long it has been waiting.
func receive(raw syscall.RawConn, b, oob []byte) (n int, age time.Duration, err error) {
	var oobn int
	ended := raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = unix.Recvmsg(int(fd), b, oob, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if err = errors.Join(ended, err); err != nil {
		return 0, 0, err
	}
	return n, ageOf(oob[:oobn], time.Now()), nil
}

// ageOf reads the kernel's time of a frame. It is on the wall clock; where that
// has been set in between, the frame counts as new.
func ageOf(oob []byte, now time.Time) time.Duration {
	const longest = time.Hour
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS || len(m.Data) < int(unsafe.Sizeof(unix.Timespec{})) {
			continue
		}
		at := (*unix.Timespec)(unsafe.Pointer(&m.Data[0])) //nolint:gosec // the kernel's own form, and long enough
		if age := time.Duration(now.UnixNano() - at.Nano()); age > 0 && age < longest {
			return age
		}
	}
	return 0
}

// claimed is told of every claim on a segment, most of which are none of ours,
// and for how long it has waited to be read.
func (v *VIP) claimed(on string, addr netip.Addr, mac net.HardwareAddr, age time.Duration) {
	if !slices.Contains(v.addrs, addr) {
		return
	}
	// The lease itself is asked, and since when it stands: after a pause of this
	// process what waits to be read are the rightful claims of who had the address
	// meanwhile, and the rest of us does not know yet that it is over.
	w, left := v.asked()
	now := time.Now()
	v.mu.Lock()
	answering, own, begun := v.state.Answering && v.state.Held, v.own, v.begun
	v.mu.Unlock()
	switch {
	case !answering || left == 0 || !w.Answer || now.Add(-age).Before(begun):
		return
	case slices.ContainsFunc(own, func(m net.HardwareAddr) bool { return equalMAC(m, mac) }):
		return
	}
	first := false
	v.learn(func(_ *facts, s *State) { first = s.conflict(on, addr, mac.String(), now) })
	if first {
		v.log.Error("another machine claims an address of ours; find it by its MAC", "vip", addr, "iface", on, "mac", mac.String())
	}
	v.mu.Lock()
	v.contested = true
	v.mu.Unlock()
	kick(v.addressKick)
}
