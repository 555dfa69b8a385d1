//go:build race

package state

// The race detector makes a million clients slow, and has its own memory.
func init() { raced = true }
