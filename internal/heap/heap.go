// Package heap keeps the garbage collector of a small process from working all the
// time.
//
// The collector runs when the heap has grown by as much as was alive after it ran last.
// Of a process with some megabytes alive that is each time after a few megabytes: while
// clients shake hands by TLS, thirty times a second, and each time costs about the same,
// however little there is to find. A third of the CPU time of a handshake was that.
package heap

import (
	"runtime"
	"sync"
)

// floor is memory that counts as alive and that nobody ever touches, so that the kernel
// never gives any for it: the collector runs as if so much more were alive. With more of
// it, idle connections of TLS keep more of the garbage of their handshakes; with eight
// megabytes that costs 3 KiB for each of a thousand and a handshake as little as with 32.
var floor []byte

const floorSize = 8 << 20

var once sync.Once

// KeepFloor lets garbage grow to 16 MiB at least before it is looked for. It is for the
// main function of a program, once; a second call does nothing.
//
// There is no setting of the runtime for that: GOGC is a part of what is alive, which
// with a million known clients would be a lot, and a limit of memory is not one below
// which nothing happens.
func KeepFloor() {
	once.Do(func() {
		floor = make([]byte, floorSize)
		runtime.KeepAlive(floor)
	})
}
