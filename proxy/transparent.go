package proxy

import (
	"net/netip"
)

// opaqueTo notes that a server sees another address than the client's, although
// transparent asks for that. It is logged once for each server: what is in the way is
// mostly the same for all of its clients.
func (f *front) opaqueTo(v *server, client netip.Addr, err error) {
	f.opaque.Add(1)
	if v.opaque.CompareAndSwap(false, true) {
		f.log.Warn("the server sees this machine's address and not the client's", "service", f.name, "server", v.index, "backend", v, "client", client, "err", err)
	}
}
