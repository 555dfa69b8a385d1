package vip

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// heldCapabilities are those of the given ones that this process may use.
func heldCapabilities(wanted ...uintptr) []uintptr {
	var data [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&head, &data[0]); err != nil {
		return nil
	}
	var held []uintptr
	for _, c := range wanted {
		if data[c/32].Effective&(1<<(c%32)) != 0 {
			held = append(held, c)
		}
	}
	return held
}

// checkCapabilities says which one is missing, for what, and how to get it.
func checkCapabilities(addresses []Address) error {
	needs := []struct {
		capability uintptr
		name, what string
	}{
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to add the address to an interface and to fence it"},
		{unix.CAP_NET_RAW, "CAP_NET_RAW", "to announce the address to its neighbours"},
	}
	names := make([]string, len(addresses))
	for i, a := range addresses {
		names[i] = a.String()
	}
	var errs []error
	for _, n := range needs {
		if len(heldCapabilities(n.capability)) == 0 {
			errs = append(errs, &CapabilityError{strings.Join(names, ", "), n.name, n.what})
		}
	}
	return errors.Join(errs...)
}

// checkIPv6 finds interfaces on which IPv6 is off: the kernel would say only
// "permission denied".
func checkIPv6(targets []target) error {
	var errs []error
	for _, t := range targets {
		if t.Addr.Is4() {
			continue
		}
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + t.Link + "/disable_ipv6")
		if err == nil && strings.TrimSpace(string(b)) != "0" {
			errs = append(errs, fmt.Errorf("vip %v: IPv6 is switched off on %s (sysctl net.ipv6.conf.%s.disable_ipv6)", t.Addr, t.Link, t.Link))
		}
	}
	return errors.Join(errs...)
}
