//go:build pen_level1

package state

// Newest is the newest level that this program knows.
const Newest Level = 1
