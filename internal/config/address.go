package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// SystemResolver asks the system and takes the first answer, as the original does.
func SystemResolver(ctx context.Context, host string) (netip.Addr, error) {
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(all) == 0 {
		return netip.Addr{}, fmt.Errorf("lookup %s: no address", host)
	}
	return all[0].Unmap(), nil
}

// literal reads an address as C's getaddrinfo does for numeric hosts, so that
// "127.1" is one.
func literal(host string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), true
	}
	if !strings.Contains(host, ".") {
		return netip.Addr{}, false
	}
	return aton(host)
}

// aton is C's inet_aton: one to four numbers, decimal, octal or hexadecimal,
// the last one filling what is left.
func aton(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, p := range parts {
		if p == "" || !isDigit(p[0]) || strings.Contains(p, "_") {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(cNumber(p), 0, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if n >= 1<<bits {
			return netip.Addr{}, false
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// cNumber keeps Go's own prefixes 0b and 0o from being taken for numbers.
func cNumber(s string) string {
	if len(s) > 1 && s[0] == '0' && s[1] != 'x' && s[1] != 'X' && !isDigit(s[1]) {
		return "!"
	}
	return s
}

// checkHost says why a text can not be the host of a server; it does not ask
// whether the host exists.
func checkHost(host string) error {
	switch {
	case host == "":
		return errors.New("an empty host")
	case !printable(host):
		return errors.New("a host with blanks or control characters")
	}
	if _, ok := literal(host); ok {
		return nil
	}
	if strings.ContainsAny(host, ":[]()") || host[0] == '#' || isNumber(host) {
		return errors.New("unknown or invalid address " + strconv.Quote(host))
	}
	if len(host) > 255 {
		return errors.New("a host name longer than 255 bytes")
	}
	return nil
}

// lookup finds the address of a host, literal or by the resolver.
func (e *environment) lookup(host string) (netip.Addr, error) {
	if a, ok := literal(host); ok {
		return a, nil
	}
	if err := checkHost(host); err != nil {
		return netip.Addr{}, err
	}
	a, err := e.resolve(e.ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("resolve %s: %w", host, err)
	}
	if !a.IsValid() {
		return netip.Addr{}, fmt.Errorf("resolve %s: no address", host)
	}
	return a.Unmap(), nil
}

// servicePort finds a port by number or by name, in the tables for TCP and UDP.
func servicePort(text string) (int, bool) {
	if isNumber(text) {
		n, err := strconv.Atoi(text)
		return n, err == nil && n <= 65535
	}
	for _, network := range []string{"tcp", "udp"} {
		if n, err := net.LookupPort(network, text); err == nil && text != "" {
			return n, true
		}
	}
	return 0, false
}
