package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Address is where a control port is: the path of a Unix socket, or the TCP
// addresses that are listened on.
type Address struct {
	Text string // as written
	what string // waits there, for errors
	Path string
	TCP  []netip.AddrPort
}

const controlPort = "control port"

// The loopback addresses. ::1 is left out where the machine has no IPv6.
var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

var (
	errNoPort = errors.New("no port given")
	errNoHost = errors.New("no host before the port: a bare port is loopback, *:PORT is every address")
)

// Resolve reads an address to listen on:
//
//	8888             127.0.0.1 and ::1
//	localhost:8888   the same
//	HOST:8888        the first address of a name, IPv4 before IPv6
//	10.0.0.1:8888
//	[::1]:8888       or, as the original has it, ::1:8888
//	*:8888           every address; :::8888 too
//	/run/pen.sock    a Unix socket: anything with a slash
//
// A port can be the name of a service. Port 0 is any free one.
func Resolve(ctx context.Context, text string) (Address, error) {
	return resolve(ctx, controlPort, text)
}

func resolve(ctx context.Context, what, text string) (Address, error) {
	a := Address{Text: text, what: what}
	if strings.Contains(text, "/") {
		a.Path = text
		return a, nil
	}
	host, port, err := split(text)
	if err != nil {
		return a, fmt.Errorf("%s %q: %w", what, text, err)
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return a, fmt.Errorf("%s %q: %w", what, text, err)
	}
	hosts, err := addresses(ctx, host)
	if err != nil {
		return a, fmt.Errorf("%s %q: %w", what, text, err)
	}
	for _, h := range hosts {
		a.TCP = append(a.TCP, netip.AddrPortFrom(h, uint16(number)))
	}
	return a, nil
}

// split takes host and port apart at the last colon. No host is loopback.
func split(text string) (host, port string, err error) {
	i := strings.LastIndexByte(text, ':')
	switch {
	case text == "":
		return "", "", errNoPort
	case i < 0:
		return "", text, nil
	}
	host, port = text[:i], text[i+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, ok = strings.CutSuffix(inner, "]")
		if _, err := netip.ParseAddr(host); !ok || err != nil {
			return "", "", errors.New("expected an IPv6 address in the brackets")
		}
	}
	switch {
	case host == "":
		return "", "", errNoHost
	case port == "":
		return "", "", errNoPort
	case strings.Contains(host, ":"):
		if _, err := netip.ParseAddr(host); err != nil {
			return "", "", fmt.Errorf("%s is no IPv6 address", host)
		}
	}
	return host, port, nil
}

// addresses returns what a host stands for when it is listened on.
func addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	switch host {
	case "", "localhost":
		return loopback, nil
	case "*":
		return []netip.Addr{netip.IPv6Unspecified()}, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	if i := slices.IndexFunc(found, netip.Addr.Is4); i >= 0 {
		return found[i : i+1], nil
	}
	return found[:1], nil
}

// Local tells whether only this machine reaches the address.
func (a Address) Local() bool {
	return !slices.ContainsFunc(a.TCP, func(t netip.AddrPort) bool { return !t.Addr().IsLoopback() })
}

// Guard refuses an address that other machines reach, unless an access list
// with entries stands before it: whoever reaches the control port can send the
// clients anywhere, and figures are nobody's business but the operator's.
func (a Address) Guard(restricted bool) error {
	if restricted || a.Local() {
		return nil
	}
	or := "use a bare port (loopback only)"
	if a.what == controlPort {
		or += " or the path of a Unix socket"
	}
	return fmt.Errorf("%s %s: other machines reach it, and the list that control_acl names is empty: "+
		`say who may use it with "acl N permit ADDRESS" and "control_acl N", or %s`, a.what, a.Text, or)
}
