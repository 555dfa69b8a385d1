//go:build pen_level1

package cluster

// ProtocolMax is the newest wire protocol that this program speaks.
const ProtocolMax uint16 = 1
