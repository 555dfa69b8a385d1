package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// loopSlice is what a loop asks of the scheduler: to run for so long at once, and in
// return soon after it has something to do. It makes the loops' threads get the
// processor before the others of this process, which would keep it for 3 ms; their
// share of it stays the same. (Linux 6.12 and later, sched_setattr(2): the slice of a
// thread of SCHED_OTHER. 0.1 ms is the least that it takes.)
const loopSlice = 100 * time.Microsecond

// shortSlice asks for the calling thread. An older system, or one that does not allow
// it, leaves everything as it is.
func shortSlice() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return
	}
	attr.Runtime = uint64(loopSlice)
	_ = unix.SchedSetAttr(0, attr, 0)
}
