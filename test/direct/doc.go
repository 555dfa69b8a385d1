// Package direct tries direct server return and the tarpit with real kernels: a client,
// servers that have the address on their loopback interface, and pen, on one
// bridge, each in a network namespace of its own. It needs root and iproute2.
package direct
