package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"pen/state"
)

// ServerSpec is a server as the command line, emergency and abuse give it:
// HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]].
type ServerSpec struct {
	Text                     string
	Host                     string // without brackets; or a path
	Port                     int    // DefaultPort: that of the listener; 0: never usable
	Soft, Hard, Weight, Prio int
}

// DefaultPort as ServerSpec.Port stands for the port of the service's listener.
const DefaultPort = -1

var specFields = []string{"soft limit", "hard limit", "weight", "prio"}

// ParseServer reads a server as the original does: fields end at the first
// thing that is not a number, further fields are 0, a port out of range wraps
// and one that means nothing is 0. Only the host can be wrong.
func ParseServer(text string) (ServerSpec, error) {
	s, port, rest, err := splitServer(text)
	if err != nil {
		return s, err
	}
	switch {
	case s.Path():
		s.Port = 1 // what the original shows for a Unix socket
	case port == "":
		return s, nil
	default:
		s.Port = loosePort(port)
	}
	for _, to := range []*int{&s.Soft, &s.Hard, &s.Weight, &s.Prio} {
		n, used := leadingInt(rest)
		if used == 0 {
			break
		}
		*to = n
		if used == len(rest) || rest[used] != ':' {
			break
		}
		rest = rest[used+1:]
	}
	return s, nil
}

// parseServerStrictly takes no field that means nothing.
func parseServerStrictly(text string) (ServerSpec, error) {
	s, port, rest, err := splitServer(text)
	if err != nil {
		return s, err
	}
	if s.Path() {
		s.Port = 1
	} else if port != "" || rest != "" {
		n, ok := servicePort(port)
		if !ok {
			return s, fmt.Errorf("port %q of server %s is neither from 0 to 65535 nor the name of a service", port, s.Host)
		}
		s.Port = n
	}
	if rest == "" {
		return s, nil
	}
	for i, part := range strings.Split(rest, ":") {
		if i >= len(specFields) {
			return s, fmt.Errorf("server %s has more than %d fields", s.Host, 2+len(specFields))
		}
		n, err := strconv.ParseInt(part, 10, 32)
		if err != nil {
			return s, fmt.Errorf("%s %q of server %s is no number", specFields[i], part, s.Host)
		}
		*[]*int{&s.Soft, &s.Hard, &s.Weight, &s.Prio}[i] = int(n)
	}
	return s, nil
}

// splitServer cuts the host off, then the port; rest are the other fields.
func splitServer(text string) (s ServerSpec, port, rest string, err error) {
	s = ServerSpec{Text: text, Port: DefaultPort}
	host, rest, _ := strings.Cut(text, ":")
	if strings.HasPrefix(text, "[") {
		end := strings.IndexByte(text, ']')
		if end < 0 || (end+1 < len(text) && text[end+1] != ':') {
			return s, "", "", fmt.Errorf("unknown or invalid address %q", text)
		}
		host, rest = text[1:end], strings.TrimPrefix(text[end+1:], ":")
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return s, "", "", fmt.Errorf("unknown or invalid address %q", text)
		}
	}
	s.Host = host
	if host == "" {
		return s, "", "", fmt.Errorf("unknown or invalid address %q", text)
	}
	if strings.Contains(host, "/") {
		err = checkPath(host)
	} else {
		err = checkHost(host)
	}
	port, rest, _ = strings.Cut(rest, ":")
	return s, port, rest, err
}

func checkPath(path string) error {
	switch {
	case !printable(path):
		return errors.New("a path with blanks or control characters")
	case path == "" || path[0] != '/':
		return fmt.Errorf("path %q of a Unix socket is not absolute", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("path of a Unix socket longer than %d bytes", maxSocketPath)
	}
	return nil
}

// loosePort wraps modulo 65536 as the original's conversion does.
func loosePort(text string) int {
	if n, used := leadingInt(text); used > 0 {
		return int(uint16(n))
	}
	n, _ := servicePort(strings.TrimSpace(text))
	return n
}

// Path tells whether the server is a Unix socket.
func (s ServerSpec) Path() bool { return strings.HasPrefix(s.Host, "/") }

// String is the shortest text that gives the same server.
func (s ServerSpec) String() string {
	host := s.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	parts := []string{host, "", strconv.Itoa(s.Soft), strconv.Itoa(s.Hard), strconv.Itoa(s.Weight), strconv.Itoa(s.Prio)}
	if s.Port != DefaultPort {
		parts[1] = strconv.Itoa(s.Port)
	}
	for len(parts) > 2 && parts[len(parts)-1] == "0" {
		parts = parts[:len(parts)-1]
	}
	if len(parts) == 2 && (parts[1] == "" || s.Path()) {
		parts = parts[:1]
	}
	return strings.Join(parts, ":")
}

// specOf is the text of a server that is set already.
func specOf(s *state.Server) ServerSpec {
	return ServerSpec{Host: s.Host, Port: int(s.Port), Soft: s.Soft, Hard: s.Hard, Weight: s.Weight, Prio: s.Prio}
}

// specFieldsSet are the fields that a spec always sets. Emergency and abuse
// servers have no access list, and others keep theirs.
const specFieldsSet = state.FieldAddress | state.FieldPort | state.FieldSoft | state.FieldHard | state.FieldWeight | state.FieldPrio

// op resolves a spec and makes it the server of that index.
func (s ServerSpec) op(e *environment, service string, index int) (state.Op, error) {
	address, err := e.address(s.Host)
	if err != nil {
		return nil, err
	}
	port := s.Port
	if port == DefaultPort {
		if port = int(e.port(service)); port == 0 {
			return nil, fmt.Errorf("server %s has no port, and there is no listen port to take", s.Host)
		}
	}
	return state.SetServer{
		Service: service, Index: index, Fields: specFieldsSet,
		Server: state.Server{Address: address, Port: uint16(port), Soft: s.Soft, Hard: s.Hard, Weight: s.Weight, Prio: s.Prio},
	}, nil
}

// address resolves the host of a server.
func (e *environment) address(host string) (state.Address, error) {
	if strings.Contains(host, "/") {
		if err := checkPath(host); err != nil {
			return state.Address{}, err
		}
		return state.Address{Host: host}, nil
	}
	ip, err := e.lookup(host)
	if err != nil {
		return state.Address{}, err
	}
	return state.Address{Host: host, IP: ip}, nil
}
