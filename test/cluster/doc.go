// Package cluster tests what a cluster promises, on real programs in network
// namespaces: nodes are killed, frozen, cut off and unplugged, and clients and an
// observer look on from outside.
//
// A run of go test takes the short form: every fault once. PEN_E2E=long takes every
// fault many times, with the full lengths. Limits of time are generous here, since
// other tests run beside; figures belong to bench/failover. What must never be is
// never allowed: two nodes answering, a known client at another server.
package cluster
