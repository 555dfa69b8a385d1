package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Bounds of a cluster.
const (
	MaxPeers = 15 // each of them votes
	MaxVIPs  = 64
)

const (
	peerForm = "ADDR[:PORT][:witness][:prio=N]"
	vipForm  = "ADDR/LEN [dev LINK]"
)

// String is the peer as the language writes it.
func (p Peer) String() string {
	text := p.Addr.Addr().String()
	rest := ""
	if p.Addr.Port() != DefaultClusterPort && p.Addr.Port() != 0 {
		rest += fmt.Sprintf(":%d", p.Addr.Port())
	}
	if p.Witness {
		rest += ":witness"
	}
	if p.Priority != 0 {
		rest += fmt.Sprintf(":prio=%d", p.Priority)
	}
	if rest != "" && p.Addr.Addr().Is6() {
		text = "[" + text + "]"
	}
	return text + rest
}

func peersText(peers []Peer) string {
	var all []string
	for _, p := range peers {
		all = append(all, p.String())
	}
	return strings.Join(all, " ")
}

// String is the address as the language writes it.
func (v VIP) String() string {
	if v.Link == "" {
		return v.Prefix.String()
	}
	return v.Prefix.String() + " dev " + v.Link
}

// peers checks the arguments of `peers`, which blanks or commas separate, and
// makes one value of each.
func (r *reader) peers(words []field) []Value {
	var all []Value
	var peers []Peer
	for _, w := range commaFields(words) {
		p, err := parsePeer(w.text)
		if err == nil {
			err = fitsIn(p, peers)
		}
		if err != nil {
			r.fail(w.column, "peers: "+err.Error(), "", "")
		} else {
			peers = append(peers, p)
		}
		all = append(all, Value{Text: w.text, Column: w.column})
		if len(all) > MaxPeers {
			r.fail(w.column, fmt.Sprintf("more than %d peers", MaxPeers), "", "")
			break
		}
	}
	if len(all) == 0 {
		r.fail(words[0].column, "peers without a value", peerForm, "")
	}
	return all
}

// commaFields splits words at their commas.
func commaFields(words []field) []field {
	var all []field
	for _, w := range words {
		for _, part := range fields(w.text, ",") {
			all = append(all, field{part.text, w.column + part.column - 1})
		}
	}
	return all
}

// fitsIn says why a peer can not be one of those that are there already.
func fitsIn(p Peer, peers []Peer) error {
	for _, other := range peers {
		if other.Addr == p.Addr {
			return fmt.Errorf("%s is given twice", p.Addr)
		}
		if other.Addr.Addr().IsLoopback() != p.Addr.Addr().IsLoopback() {
			return errors.New("an address of this machine alone and others that reach it from elsewhere; give all of one kind")
		}
	}
	return nil
}

// parsePeer reads ADDR[:PORT][:witness][:prio=N].
func parsePeer(text string) (Peer, error) {
	p, err := splitPeer(text)
	if p.port == 0 {
		p.port = DefaultClusterPort
	}
	return Peer{Addr: p.addr(), Witness: p.Witness, Priority: p.Priority}, err
}

// checkSelf reads ADDR[:PORT].
func checkSelf(text string) error {
	p, err := splitPeer(text)
	if err == nil && p.flags {
		err = errors.New("witness and prio belong to peers")
	}
	return err
}

// peerSpec is a peer as it was written.
type peerSpec struct {
	Peer
	host  netip.Addr
	port  int  // 0: not given
	flags bool // there is more than address and port
}

func (p peerSpec) addr() netip.AddrPort { return netip.AddrPortFrom(p.host, uint16(p.port)) }

func splitPeer(text string) (p peerSpec, err error) {
	host, rest, err := peerHost(text)
	if err != nil {
		return p, err
	}
	p.host = host
	seen := map[string]bool{}
	for i, part := range rest {
		key, value, _ := strings.Cut(part, "=")
		switch {
		case i == 0 && isNumber(part):
			if p.port, err = strconv.Atoi(part); err != nil || p.port < 1 || p.port > 65535 {
				return p, fmt.Errorf("port %s of %s, expected 1 to 65535", part, host)
			}
			continue
		case seen[key]:
			return p, fmt.Errorf("%s of %s given twice", key, host)
		case part == "witness":
			p.Witness = true
		case key == "prio":
			n, ok := strictInt(value)
			if !ok {
				return p, fmt.Errorf("prio %q of %s is no number", value, host)
			}
			p.Priority = n
		default:
			return p, fmt.Errorf("%q after %s, expected %s", part, host, peerForm)
		}
		seen[key], p.flags = true, true
	}
	return p, nil
}

// peerHost cuts the address off. The rest is what colons separate after it.
func peerHost(text string) (netip.Addr, []string, error) {
	host, rest := text, ""
	switch {
	case strings.HasPrefix(text, "["):
		inner, after, closed := strings.Cut(text[1:], "]")
		if a, err := netip.ParseAddr(inner); !closed || err != nil || !a.Is6() || after != "" && after[0] != ':' {
			return netip.Addr{}, nil, fmt.Errorf("%q, expected [IPV6], then what follows after a colon", text)
		}
		host, rest = inner, after
	case !isAddr(text):
		host, rest = bareHost(text)
		if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			return a, nil, fmt.Errorf("%q: an IPv6 address needs brackets before what follows: [%s]%s", text, host, rest)
		}
	}
	a, err := netip.ParseAddr(host)
	if err == nil {
		err = nodeAddr(a)
	} else {
		err = noLiteral(host, "the nodes have to find each other when no name server answers")
	}
	if rest == "" {
		return a, nil, err
	}
	return a, strings.Split(rest[1:], ":"), err
}

// bareHost ends an address without brackets where something begins that can not
// be part of it.
func bareHost(text string) (host, rest string) {
	for _, flag := range []string{":witness", ":prio="} {
		if i := strings.Index(text, flag); i >= 0 && isAddr(text[:i]) {
			return text[:i], text[i:]
		}
	}
	i := strings.IndexByte(text, ':')
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i:]
}

func isAddr(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// noLiteral says why a text is no address, and why a name does not do.
func noLiteral(host, why string) error {
	if host == "" || strings.Trim(host, "0123456789.") == "" || checkHost(host) != nil {
		return fmt.Errorf("%q is no address", host)
	}
	return fmt.Errorf("%q is a name; give an address: %s", host, why)
}

// nodeAddr says why an address can not be that of a node.
func nodeAddr(a netip.Addr) error {
	switch {
	case a.Zone() != "":
		return fmt.Errorf("%s: a zone means another thing on each node; leave it out", a)
	case a.Is4In6():
		return fmt.Errorf("%s: write it as %s", a, a.Unmap())
	case a.IsUnspecified(), a.IsMulticast(), a == broadcast:
		return fmt.Errorf("%s is not the address of one machine", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%s: a link-local address means another thing on each interface; give another one", a)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// vipLength is how many words an address has.
func vipLength(words []field) int {
	if len(words) > 1 && words[1].text == "dev" {
		return 3
	}
	return 1
}

// vip checks the arguments of `vip`.
func (r *reader) vip(words []field) []Value {
	var all []Value
	var parts []string
	for _, w := range words[:min(len(words), vipLength(words))] {
		all = append(all, Value{Text: w.text, Column: w.column})
		parts = append(parts, w.text)
	}
	if _, err := parsePrefix(parts[0]); err != nil {
		r.fail(words[0].column, "vip: "+err.Error(), "", "")
	} else if _, err := parseVIP(parts); err != nil {
		r.fail(all[len(all)-1].Column, "vip: "+err.Error(), "", "")
	}
	return all
}

// parseVIP reads ADDR/LEN [dev LINK].
func parseVIP(words []string) (VIP, error) {
	var v VIP
	if len(words) == 0 {
		return v, errors.New("no address")
	}
	prefix, err := parsePrefix(words[0])
	if err != nil {
		return v, err
	}
	v.Prefix = prefix
	switch {
	case len(words) == 2:
		return v, errors.New("dev without an interface")
	case len(words) > 2 && !linkName(words[2]):
		return v, fmt.Errorf("%q can not be the name of an interface", words[2])
	case len(words) > 2:
		v.Link = words[2]
	case prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast():
		return v, fmt.Errorf("%s: every interface has this subnet; say which one: vip %s dev LINK", prefix.Addr(), prefix)
	}
	return v, nil
}

// parsePrefix reads an address with the length of its subnet.
func parsePrefix(text string) (netip.Prefix, error) {
	host, length, cut := strings.Cut(text, "/")
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return netip.Prefix{}, noLiteral(host, "it is what names lead to")
	case a.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("%q: name the interface with dev, not by a zone", text)
	case a.Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s: write it as %s", a, a.Unmap())
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == broadcast:
		return netip.Prefix{}, fmt.Errorf("%s is not the address of one machine", a)
	case !cut:
		return netip.Prefix{}, fmt.Errorf("%s without the length of its subnet; write it as %s", a, example(a))
	}
	n, err := strconv.Atoi(length)
	if !isNumber(length) || err != nil || n < 1 || n > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("length %q of the subnet of %s, expected 1 to %d", length, a, a.BitLen())
	}
	p := netip.PrefixFrom(a, n)
	if end := lastOf(p); a.Is4() && n < 31 && (a == p.Masked().Addr() || a == end) {
		return p, fmt.Errorf("%s is the address of the subnet %s or of all in it, and not of one machine", a, p.Masked())
	}
	return p, nil
}

// example is an address with the length that most subnets have.
func example(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 24)
	}
	return netip.PrefixFrom(a, 64)
}

// lastOf is the last address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	first, mask := p.Masked().Addr().As4(), maskOf(p.Bits(), 32).As4()
	for i := range first {
		first[i] |= ^mask[i]
	}
	return netip.AddrFrom4(first)
}

// linkName tells whether the kernel could have an interface of that name.
func linkName(text string) bool {
	return len(text) <= 15 && printable(text) && !strings.ContainsAny(text, "/:") && text != "." && text != ".." && !strings.HasPrefix(text, "#")
}
