package proxy

import (
	"net/netip"
	"time"

	"pen/state"
)

// headerTime is how long a client may take to say for whom he comes.
const headerTime = 3 * time.Second

// expects tells whether a connection from that address has to begin with a PROXY
// header. Of others it would be data: who is not trusted could claim to be anybody.
func (f *front) expects(peer netip.Addr) bool {
	set := f.settings.Load()
	return set.ProxyIn != state.Numbered(state.NoList) && set.Protocol == state.TCP && f.plan.Load().lists.permits(set.ProxyIn, bare(peer))
}

// waits takes a place among those whose header has not come. It is for half of all
// connections: who does not go on must not keep the others out.
func (f *front) waits() bool {
	if f.unheard.Add(1) <= max(1, int64(f.settings.Load().ConnMax)/2) {
		return true
	}
	f.unheard.Add(-1)
	return false
}

// announces tells whether servers are told for whom connections come.
func (f *front) announces() bool { return f.settings.Load().ProxyOut != state.ProxyOff }

// announce appends what servers are told before a client's first byte.
func (f *front) announce(b []byte, e ends, fields []byte) []byte {
	switch f.settings.Load().ProxyOut {
	case state.ProxyV1:
		return appendLine(b, e)
	case state.ProxyV2:
		return appendBinary(b, e, fields)
	}
	return b
}
