package config

import (
	"fmt"
	"net/netip"
	"strings"

	"pen/state"
)

// listenSpec is a listen address as it was written, cut into its parts.
type listenSpec struct {
	text string
	path string // of a Unix socket
	host string // "" is any IPv4 address, "::" any address at all
	port int
}

// parseListen reads the forms of a listen address: PORT, HOST:PORT, *:PORT, with
// the last colon before the port and IPv6 addresses without brackets, a path, or an
// IPv4 address alone. For IPv6 that is ADDRESS:0, which could be taken for a port otherwise.
func parseListen(text string) (listenSpec, error) {
	l := listenSpec{text: text}
	switch {
	case text == "":
		return l, fmt.Errorf("an empty listen address")
	case !printable(text):
		return l, fmt.Errorf("a listen address with blanks or control characters")
	case strings.Contains(text, "/"):
		if text[0] != '/' {
			return l, fmt.Errorf("path %q of a Unix socket is not absolute", text)
		}
		if len(text) > maxSocketPath {
			return l, fmt.Errorf("path of a Unix socket longer than %d bytes", maxSocketPath)
		}
		l.path = text
		return l, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
		l.host = text // without a port, for dsr_if
		return l, nil
	}
	colon := strings.LastIndexByte(text, ':')
	port := text[colon+1:]
	if colon >= 0 {
		l.host = text[:colon]
		if err := checkListenHost(l.host); err != nil {
			return l, err
		}
	}
	var ok bool
	if l.port, ok = servicePort(port); !ok || (l.port == 0 && colon < 0) {
		return l, fmt.Errorf("port %s out of range", port)
	}
	if l.host == "*" {
		l.host = ""
	}
	return l, nil
}

// checkPort says why a text is no [HOST:]PORT.
func checkPort(text string) error {
	l, err := parseListen(text)
	switch {
	case err != nil:
		return err
	case l.path != "":
		return fmt.Errorf("%q is a path", text)
	case !strings.Contains(text, ":") && strings.Contains(text, "."):
		return fmt.Errorf("%q has no port", text)
	}
	return nil
}

// maxSocketPath is what fits into sun_path of Linux with its final zero.
const maxSocketPath = 107

func checkListenHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil || host == "*" {
		return nil
	}
	if host == "" || checkHost(host) != nil {
		if strings.HasPrefix(host, "[") {
			return fmt.Errorf("can't convert address %s: an IPv6 listen address has no brackets", host)
		}
		return fmt.Errorf("can't convert address %q", host)
	}
	return nil
}

// listen resolves the address.
func (e *environment) listen(text string) (state.Listen, error) {
	spec, err := parseListen(text)
	if err != nil {
		return state.Listen{}, err
	}
	l := state.Listen{Text: text}
	if spec.path != "" {
		return l, nil
	}
	addr := netip.IPv4Unspecified()
	if spec.host != "" {
		if addr, err = e.lookup(spec.host); err != nil {
			return state.Listen{}, err
		}
	}
	l.Addr = netip.AddrPortFrom(addr, uint16(spec.port))
	return l, nil
}
