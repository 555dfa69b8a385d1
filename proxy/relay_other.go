//go:build !linux

package proxy

// Elsewhere than on Linux there are no event loops of ours.
type (
	engine   = netEngine
	listener = netListener
)

func newEngine(p *Proxy) *engine { return newNetEngine(p.log, &p.opts) }

// relays returns what serves with goroutines.
func (e *netEngine) relays() *netEngine { return e }
