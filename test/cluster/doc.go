// Package cluster tests what a cluster promises, on real programs in network
// namespaces: nodes are killed, frozen, cut off and unplugged, and clients and an
// observer look on from outside.
//
// A run of go test takes the short form: every fault once, in less than two minutes.
// PEN_E2E=long go test -timeout 2h takes every fault twenty times, in any order and
// with the full lengths. Limits of time are generous here, since other tests run
// beside; figures belong to bench/failover. What must never be is never allowed: two nodes answering, a known client at another server. A connect
// that a planned change has lost is forgiven only if the machine demonstrably did not
// run the observers or a node at that time.
package cluster
