//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time that the processes have used so far, all their
// threads together, to the nanosecond. It is the kernel's clock of a process,
// clock_getcpuclockid(3): one call, and threads that have ended count too.
func cpuTime(pids []int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var sum time.Duration
	for _, pid := range pids {
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// busyTime is how long the CPUs have been busy since the machine started, in
// whatever process and also by the will of the hypervisor.
func busyTime(cpus ...int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, cpu := range cpus {
		busy, err := busyOf(string(stat), cpu)
		if err != nil {
			return 0, err
		}
		sum += busy
	}
	return sum, nil
}

// busyOf reads one CPU's line of /proc/stat: user, nice, system, idle, iowait,
// irq, softirq and steal, in hundredths of a second.
func busyOf(stat string, cpu int) (time.Duration, error) {
	name := "cpu" + strconv.Itoa(cpu)
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != name {
			continue
		}
		var busy time.Duration
		for i, field := range fields[1:9] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/stat: %w", err)
			}
			if i != 3 && i != 4 { // idle and waiting for a disk
				busy += time.Duration(ticks) * 10 * time.Millisecond
			}
		}
		return busy, nil
	}
	return 0, fmt.Errorf("/proc/stat: no line for %s", name)
}
