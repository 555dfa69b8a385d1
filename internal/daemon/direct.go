package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pen/direct"
	"pen/internal/config"
	"pen/proxy"
	"pen/state"
	"pen/vip"
)

// configureTraffic makes v what counts for everything that moves clients' bytes. What is
// sent on directly the kernel is made deaf to before its listener closes.
func (d *daemon) configureTraffic(v *state.View) error {
	local := d.local.Load()
	if d.member != nil && d.member.vip != nil {
		d.member.vip.Deafen(deafPorts(local, v))
	}
	err := d.proxy.Configure(v)
	var all []direct.Service
	for _, s := range v.Services {
		if c, ok := directService(local, s); ok {
			d.choosing(&c, s)
			all = append(all, c)
		}
	}
	d.direct.Configure(all)
	return err
}

// directService is what there is to forward of a service; false: nothing.
func directService(l *config.Local, s *state.Service) (direct.Service, bool) {
	if !config.Direct(s) || s.Listen.Text == "" || s.Listen.Path() != "" {
		return direct.Service{}, false
	}
	c := direct.Service{Name: s.Name, Link: s.DirectLink, Port: s.Listen.Addr.Port(), UDP: s.Protocol == state.UDP}
	c.Addrs = []netip.Addr{s.Listen.Addr.Addr()}
	if virtual := virtual(l); len(virtual) > 0 {
		if s.Listen.Bare() {
			c.Addrs = virtual
		}
		c.Kernel = slices.Contains(virtual, c.Addrs[0])
	}
	if c.Link == direct.Auto {
		c.Link = linkOf(l, c.Addrs[0])
	}
	return c, true
}

// linkOf is the interface that `vip` names for an address, or else to be found.
func linkOf(l *config.Local, a netip.Addr) string {
	i := slices.IndexFunc(l.VIPs, func(v config.VIP) bool { return v.Prefix.Addr() == a })
	if i < 0 || l.VIPs[i].Link == "" {
		return direct.Auto
	}
	return l.VIPs[i].Link
}

// choosing adds how servers are chosen. After the regular servers come the emergency and
// the abuse server.
func (d *daemon) choosing(c *direct.Service, s *state.Service) {
	spreader := d.proxy.Spreader(s.Name)
	regular := len(s.Servers)
	for i := range s.Servers {
		c.Servers = append(c.Servers, serverAddr(&s.Servers[i]))
	}
	c.Servers = append(c.Servers, serverAddr(s.Emergency), serverAddr(s.Abuse))
	c.Choose = func(reachable func(int) bool) (direct.Choice, time.Time) {
		spread, again := spreader.Spread(func(i int) bool { return reachable(place(i, regular)) })
		return choice{spread, regular}, again
	}
	if list := s.Tarpit; list != state.Numbered(state.NoList) {
		c.Tarpit = func(a netip.Addr) bool { return spreader.Permits(list, a) }
	}
}

// serverAddr is a server's address; invalid: none.
func serverAddr(s *state.Server) netip.Addr {
	if s == nil || s.IP.IsUnspecified() {
		return netip.Addr{}
	}
	return s.IP
}

// choice translates the data plane's words into those of package direct.
type choice struct {
	*proxy.Spread
	regular int
}

func (c choice) Server(client netip.Addr, port uint16) int {
	switch i := c.Spread.Server(client, port); i {
	case proxy.Denied:
		return direct.Denied
	case state.None:
		return direct.Nobody
	default:
		return place(i, c.regular)
	}
}

// place is where a server stands among direct.Service.Servers.
func place(i, regular int) int {
	switch i {
	case state.Emergency:
		return regular
	case state.Abuse:
		return regular + 1
	}
	return i
}

// deafPorts are those of our addresses that are forwarded.
func deafPorts(l *config.Local, v *state.View) (all []vip.Port) {
	for _, s := range v.Services {
		if c, ok := directService(l, s); ok && c.Kernel {
			for _, a := range c.Addrs {
				all = append(all, vip.Port{Addr: a, UDP: c.UDP, Port: c.Port})
			}
		}
	}
	return all
}

// checkDirect tells why this machine can not forward for a service.
func checkDirect(l *config.Local, s *state.Service) error {
	c, ok := directService(l, s)
	if !ok {
		return nil
	}
	return direct.Check(c)
}

// directable tells why this machine can not forward as v asks for and now does not.
func (d *daemon) directable(now, v *state.View) error {
	local := d.local.Load()
	var errs []error
	for _, s := range v.Services {
		if before := now.Service(s.Name); before != nil && before.DirectLink == s.DirectLink && before.Listen == s.Listen {
			continue
		}
		if err := checkDirect(local, s); err != nil {
			errs = append(errs, fmt.Errorf("dsr_if %s: %w", s.DirectLink, err))
		}
	}
	return errors.Join(errs...)
}

// undirected tells why this node can not forward although the settings ask for it.
func (m *member) undirected() error {
	if err := m.direct.Err(); err != nil {
		return err
	}
	if len(deafPorts(m.local.Load(), m.state.View())) > 0 && !m.vip.State().Fences.NFT {
		return errHearing
	}
	return nil
}

var errHearing = errors.New("dsr_if: without nf_tables this node's kernel would answer the clients itself")

// passing tells package direct what it may do now. Who stands alone may always.
func (d *daemon) passing() (packets, answers bool) {
	switch {
	case d.member == nil:
		return true, true
	case d.member.vip == nil:
		return false, false
	}
	return d.member.vip.Passing()
}

// serverStats are the figures of a service's servers, with what was sent on to them.
func (d *daemon) serverStats(service string) []proxy.ServerStats {
	all := d.proxy.Servers(service)
	c, ok := d.direct.Counters(service)
	for i := range all {
		if ok && i < len(c.Servers) {
			all[i].Sent += c.Servers[i].Bytes
		}
	}
	return all
}

// directRows tell what was sent on of a service.
func (d *daemon) directRows(service string, t tally) {
	c, ok := d.direct.Counters(service)
	if !ok {
		return
	}
	t.count("direct_packets", c.Packets, "Frames passed on to servers.")
	t.count("direct_bytes", c.Bytes, "Bytes of frames passed on to servers.")
	t.count("direct_denied", c.Denied, "Packets of clients that client_acl denies.")
	t.count("direct_no_server", c.Nobody, "Packets for which no server could be reached.")
	t.count("direct_reports", c.Reports, "ICMP errors passed on to servers.")
	reachable := 0
	for _, s := range c.Servers {
		if s.Reachable {
			reachable++
		}
	}
	t.level("direct_servers_reachable", reachable, "Servers that answer ARP or neighbour discovery.")
}

// directTotals tell what has been counted of all services with dsr_if.
func (d *daemon) directTotals(t tally) {
	if !slices.ContainsFunc(d.state.View().Services, func(s *state.Service) bool { _, ok := d.direct.Counters(s.Name); return ok }) {
		return
	}
	c := d.direct.Totals()
	t.count("process_direct_answers", c.Answers, "Answers to ARP and neighbour discovery for addresses of services.")
	t.count("process_direct_pieces", c.Pieces, "Pieces of datagrams that came without their first.")
	t.count("process_direct_broken", c.Broken, "Packets that are not what they say.")
	t.count("process_direct_standby", c.Standby, "Packets that came while this node may not pass them on.")
	t.count("process_direct_returned", c.Returned, "Packets that came from the server that would get them.")
	t.count("process_direct_dropped", c.Dropped, "Frames that could not be sent on.")
	t.count("process_direct_overflows", c.Overflows, "Frames that the kernel dropped because pen was too slow.")
	t.count("process_tarpit_connections", c.Trapped, "Connections that the tarpit has accepted.")
	t.count("process_tarpit_answers", c.Lured, "Answers to ARP and neighbour discovery of the tarpit.")
	t.count("process_tarpit_spared", c.Spared, "Answers of the tarpit that were too many.")
}
