package cluster

import "golang.org/x/sys/unix"

// rest lets other threads that want the processor have it: those of the data plane,
// while a command with thousands of clients is applied. It costs 0.3 microseconds
// when nobody does.
func rest() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
