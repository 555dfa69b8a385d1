package proxy

// A node of a cluster either serves or stands by. Its listeners are open in both
// cases, so that to take over costs nothing that can fail.

// Serve accepts clients from now on. When it returns, it is so. It waits for
// nothing but a Standby under way.
func (p *Proxy) Serve() {
	p.engine.takeOver()
	p.lookAtTickets()
	p.lookAtIdlers()
}

// serving tells whether clients are accepted.
func (p *Proxy) serving() bool { return !p.engine.turnsAway() }

// Standby accepts nobody from now on and resets every connection, also those that
// have no server yet and those that no one has accepted. When it returns, none of them
// is left. Who tries to connect gets no answer, so that he tries again and meets
// the node that serves by then; on a Unix socket, where there is no other node, he is
// turned away. Listeners stay open, and new ones are opened as ever.
//
// The reset goes to clients and servers. A Unix socket knows none: there it is a close.
func (p *Proxy) Standby() { p.engine.standBy() }
