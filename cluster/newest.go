//go:build !pen_level1

package cluster

// ProtocolMax is the newest wire protocol that this program speaks. 2 knows
// questions to other nodes, see Node.Query. The tag pen_level1 builds a program
// that stands for the version before, see state.Newest.
const ProtocolMax uint16 = 2
