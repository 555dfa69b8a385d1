package proxy

import (
	"runtime"
	"sync"
)

// floor is memory that counts as alive and that nobody ever touches, so that the kernel
// never gives any for it. The garbage collector runs when the heap has grown by as much
// as was alive after it ran last. Of a process with some megabytes alive that is each
// time after a few megabytes: while clients shake hands by TLS thirty times a second,
// and each time costs about the same, however little there is to find. With the floor it
// runs as if so much more were alive. With a larger one, idle connections of TLS keep
// more of the garbage of their handshakes; eight megabytes cost 3 KiB for each of a
// thousand, and spare as much as 32.
//
// There is no setting of the runtime for that: GOGC is a part of what is alive, which
// with a million known clients would be a lot, and a limit of memory is not one below
// which nothing happens.
var floor []byte

const floorSize = 8 << 20

var floorOnce sync.Once

// keepFloor makes the floor, if it is not there. It is for whoever is about to make a
// lot of garbage: who does not starts sooner without.
func keepFloor() {
	floorOnce.Do(func() {
		floor = make([]byte, floorSize)
		runtime.KeepAlive(floor)
	})
}
