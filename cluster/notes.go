package cluster

import (
	"net/netip"
	"slices"
	"time"
)

type heardNote struct {
	note
	hello Hello
	at    time.Time
}

// where returns the newest address of a node.
func (n *Node) where(id string) (netip.AddrPort, bool) {
	node, err := ParseID(id)
	if err != nil {
		return netip.AddrPort{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.notes[node]
	return h.hello.Addr, ok && h.hello.Addr.IsValid()
}

// others are the addresses to be connected with.
func (n *Node) others() []netip.AddrPort {
	var all []netip.AddrPort
	add := func(a netip.AddrPort) {
		if a.IsValid() && a != n.cfg.Self && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, p := range n.cfg.Peers {
		add(p.Addr)
	}
	if k := n.core.Load(); k != nil {
		for _, s := range k.raft.GetConfiguration().Configuration().Servers {
			if a, ok := n.where(string(s.ID)); ok {
				add(a)
			} else if a, err := netip.ParseAddrPort(string(s.Address)); err == nil {
				add(a)
			}
		}
	}
	return all
}

func (n *Node) note() note {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := note{Eligible: n.eligible && !n.self.Witness, Why: n.why}
	if k := n.core.Load(); k != nil {
		o.Applied = k.raft.AppliedIndex()
	}
	if n.self.Witness {
		o.Why = "witness"
	}
	return o
}

func (n *Node) heard(h Hello, o note) {
	n.mu.Lock()
	was, known := n.notes[h.Node]
	n.notes[h.Node] = heardNote{o, h, time.Now()}
	n.mu.Unlock()
	if !known || was.Eligible != o.Eligible {
		n.tell()
	}
}
