// Package lab is a small network for trying what happens when a node of a
// cluster fails: nodes, clients and web servers in network namespaces of their
// own, faults, and observers who look on from outside.
//
//	client, observer ── front bridge 10.0.0.0/24 ── pen1, pen2, ... ── back bridge 10.0.1.0/24 ── web servers
//
// The namespaces are named after the process that made them, so several labs can
// stand side by side. Close removes everything. What a lab has left behind whose
// process was killed is removed when the next one is built.
//
// The observers judge by what a client sees: by who answers ARP questions for
// the virtual address and by who answers requests. What addresses the nodes have
// is recorded too, but it is a help to understand, not a verdict.
//
// It needs root, iproute2 and nft. There are no wires here and no switch: delays
// of a real network, frame loss, and machines whose kernel stands still are not shown.
package lab
